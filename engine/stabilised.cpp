// Stabilised explicit Runge-Kutta methods of order 4: long steps where a learned network is stiff.
//
// The Jacobian of a gradient flow is minus a Hessian: symmetric, so that its spectrum is real. A step of s stages
// whose stability polynomial is of Chebyshev type is stable for h rho <= 0.35 s^2 (rho: the spectral radius), against
// about 3.3 per 6 evaluations of an ordinary method. On a plateau accuracy allows steps of h rho = 1e4.
//
// Two families with the same stability polynomials share the work, step by step:
//
// - ROCK4 (Abdulle 2002, SIAM J. Sci. Comput. 23, 2041-2054): a three-term recurrence and four finishing stages.
//   Cheapest, but its finishing stages amplify rounding like s^8, so that the tolerance caps s.
// - CND4 (Chebyshev stages with nonlinear defects): all stages in increments from the start of the step, whose weights
//   are Chebyshev coefficients; two defects that vanish for linear fields repair the nonlinear order conditions. s + 3
//   evaluations, rounding of 1e-13 up to s = 160.
//
// The formulas behind the tables are in tools/generate_rock4.py and tools/generate_cnd4.py.
#include "engine.h"
#include "methods.h"
#include "tables.h"

namespace deeplinear {
namespace {

constexpr double ROUNDING = 5e-20;      // rounding of a ROCK4 step relative to the state is this times s^8
constexpr double ROUNDING_SHARE = 0.1;  // of the tolerance that rounding may use
constexpr double MARGIN = 1.1;          // by which the power iteration's estimate is raised
constexpr int COLD = 20, WARM = 3;      // power iterations at the start, and at each refresh
constexpr int REFRESH = 8;              // accepted steps between estimates of the spectral radius
constexpr double SETTLED = 0.02;        // relative change below which the power iteration stops
constexpr double DIFFERENCE = 1e-7;     // of the finite differences for Hessian products, relative to the weights
constexpr double STIR = 0.1;            // of a fixed pattern that joins the vector when a step was rejected

// Power iteration from `vector`, which it replaces: the largest modulus that it saw, and the evaluations in `most`.
double power(const Problem &problem, Workspace &work, Start from, double *vector, int &most) {
    const size_t size = problem.layout.size();
    double *unit = work.vectors[0], *point = work.vectors[1], *image = work.vectors[2];
    const double length = scale_of(problem, from.network), eps = length > 0 ? greater(DIFFERENCE * length, 1e-200) : 1;
    double radius = 0, change = INFINITY;
    int i = 0;
    for (; i < most && change > SETTLED * radius && !problem.stopped(); i++) {
        scale(unit, 1 / greater(norm(vector, size), 1e-300), vector, size);
        plus(point, from.network, eps, unit, size);
        velocity(problem, work.chain, point, image);
        plus(image, image, -1, from.slope, size);
        scale(vector, 1 / eps, image, size);
        double now = norm(vector, size);
        if (!(now > 0)) {  // every direction is flat: keep the vector
            copy(vector, unit, size);
            now = 0;
        }
        change = fabs(now - radius);
        radius = greater(radius, now);
    }
    most = i;
    return radius;
}

void rock4_step(const Problem &problem, Chain &chain, Start from, double h, int member, double *const *spare, Start to,
                double *error) {
    const size_t size = problem.layout.size();
    double *before = spare[0], *here = spare[1], *rate = spare[2], *point = spare[3];
    double *const k[] = {rate, spare[4], spare[5], spare[6]};
    const int first = rock4::offset[member], last = rock4::offset[member + 1];
    copy(before, from.network, size);
    plus(here, from.network, h * rock4::mu[first], from.slope, size);
    for (int j = first + 1; j < last && !problem.stopped(); j++) {
        velocity(problem, chain, here, rate);
        // (1 + ka) g - ka g' as g + ka (g - g'): fewer roundings
        const double ka = rock4::ka[j], mu = h * rock4::mu[j];
        for (size_t i = 0; i < size; i += LANES) {
            const Wide g = load<Wide>(here + i);
            store(before + i, g + ka * (g - load<Wide>(before + i)) + mu * load<Wide>(rate + i));
        }
        double *const swapped = before;
        before = here, here = swapped;
    }
    const double *c = rock4::finish[member], *e = rock4::error[member];
    velocity(problem, chain, here, k[0]);
    plus(point, here, h * c[0], k[0], size);
    velocity(problem, chain, point, k[1]);
    const Times third[] = {{h * c[1], k[0]}, {h * c[2], k[1]}};
    combine(point, here, third, 2, size);
    velocity(problem, chain, point, k[2]);
    const Times fourth[] = {{h * c[3], k[0]}, {h * c[4], k[1]}, {h * c[5], k[2]}};
    combine(point, here, fourth, 3, size);
    velocity(problem, chain, point, k[3]);
    const Times all[] = {{h * c[6], k[0]}, {h * c[7], k[1]}, {h * c[8], k[2]}, {h * c[9], k[3]}};
    combine(to.network, here, all, 4, size);
    velocity(problem, chain, to.network, to.slope);
    const Times errors[] = {
        {h * e[0], k[0]}, {h * e[1], k[1]}, {h * e[2], k[2]}, {h * e[3], k[3]}, {h * e[4], to.slope}};
    combine(error, nullptr, errors, 5, size);
}

void cnd4_step(const Problem &problem, Chain &chain, Start from, double h, int member, double *const *spare, Start to,
               double *error) {
    const size_t size = problem.layout.size();
    double *here = spare[0], *gain = spare[1], *total = spare[2], *linear = spare[3], *defect = spare[4],
           *rate = spare[5], *point = spare[6];
    const int first = cnd4::offset[member], stages = cnd4::stages[member];
    const int bent = cnd4::place[member][0], joins = cnd4::place[member][1];
    const double *r = cnd4::repair[member];
    const double lam = r[0], b1 = r[1], b2 = r[2], b3 = r[3], e_a = r[4], interval = cnd4::interval[member];
    const double b = interval / (2.0 * stages * stages), pace = 4 * h / interval;
    scale(here, 2 * b / interval * h, from.slope, size);  // d_1
    copy(gain, here, size);
    double *const sums[] = {total, linear, error, defect};
    for (double *sum : sums) clear(sum, size);
    for (int j = 1; j <= stages && !problem.stopped(); j++) {
        plus(point, from.network, 1, here, size);
        velocity(problem, chain, point, rate);
        plus(rate, rate, -1, from.slope, size);  // k_j - k_0
        if (j == bent) {
            plus(point, from.network, lam, here, size);
            velocity(problem, chain, point, defect);
            const Times terms[] = {{h, defect}, {-h, from.slope}, {-h * lam, rate}};
            combine(defect, nullptr, terms, 3, size);
        }
        const double beta = cnd4::beta[first + j - 1], eps = cnd4::eps[first + j - 1];
        const double joining = j + 1 == joins ? b1 : 0;
        for (size_t i = 0; i < size; i += LANES) {
            const Wide d = load<Wide>(here + i), k = load<Wide>(rate + i);
            store(total + i, load<Wide>(total + i) + beta * d);
            store(linear + i, load<Wide>(linear + i) + beta * k);
            store(error + i, load<Wide>(error + i) + eps * d);
            const Wide step = load<Wide>(gain + i) + pace * (k + b * load<Wide>(from.slope + i)) +
                              joining * load<Wide>(defect + i);
            store(gain + i, step);
            store(here + i, d + step);
        }
    }
    plus(point, from.network, 1, total, size);
    velocity(problem, chain, point, rate);  // in the middle of the two finishing evaluations
    const Times repaired[] = {{1, total}, {b2, defect}, {b3 * h, rate}, {-b3 * h, from.slope}, {-b3 * h, linear}};
    combine(to.network, from.network, repaired, 5, size);
    velocity(problem, chain, to.network, to.slope);
    const Times errors[] = {{1, error}, {e_a, defect}, {h / interval, to.slope}, {-h / interval, rate}};
    combine(error, nullptr, errors, 4, size);
}

}  // namespace

int64_t begin_spectrum(const Problem &problem, Workspace &work, Start from, Spectrum &spectrum) {
    int spent = COLD;
    copy(spectrum.vector, work.noise, problem.layout.size());
    spectrum.radius = MARGIN * power(problem, work, from, spectrum.vector, spent);
    spectrum.age = 0;
    return spent;
}

// A new estimate every `REFRESH` accepted steps and after every rejected one.
int64_t refresh_spectrum(const Problem &problem, Workspace &work, Start from, bool accepted, Spectrum &spectrum) {
    if (accepted && ++spectrum.age < REFRESH) return 0;
    const size_t size = problem.layout.size();
    if (!accepted) plus(spectrum.vector, spectrum.vector, STIR, work.noise, size);
    int spent = WARM;
    const double radius = MARGIN * power(problem, work, from, spectrum.vector, spent);
    spectrum.radius = accepted ? radius : greater(radius, spectrum.radius);
    spectrum.age = 0;
    return spent;
}

double longest_stable(const Spectrum &spectrum) {
    return rock4::interval[rock4::MEMBERS - 1] / greater(spectrum.radius, 1e-300);
}

// ROCK4 up to the number of stages at which its rounding reaches the tolerance, CND4 above.
Trial stabilised_step(const Problem &problem, Workspace &work, Start from, double h, const Spectrum &spectrum,
                      Tolerances tolerances, Start to) {
    int member = 0;
    while (member < rock4::MEMBERS - 1 && rock4::interval[member] < h * spectrum.radius) member++;
    const double most = sqrt(sqrt(sqrt(ROUNDING_SHARE * tolerances.rtol / ROUNDING)));
    const bool rounds = rock4::stages[member] > most && member > 0;
    double *error = work.vectors[7];
    // the two tables hold the same numbers of stages but for the first of ROCK4
    if (rounds)
        cnd4_step(problem, work.chain, from, h, member - 1, work.vectors, to, error);
    else
        rock4_step(problem, work.chain, from, h, member, work.vectors, to, error);
    sizes_of(problem.layout, from.network, tolerances, work.sizes);
    const double size = relative_norm(error, work.sizes, problem.layout);
    const bool finite = is_finite(norm(to.slope, problem.layout.size())) && is_finite(size);
    return {finite ? size : INFINITY, rock4::stages[member] + (rounds ? 3 : 0),
            rounds ? DEEPLINEAR_STEP_CND4 : DEEPLINEAR_STEP_ROCK4};
}

}  // namespace deeplinear
