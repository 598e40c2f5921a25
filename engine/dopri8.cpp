// Dormand and Prince's pair of order 8(5, 3), for tight tolerances.
//
// Source: Hairer, Norsett and Wanner (1993), Solving Ordinary Differential Equations I, section II.5, code DOP853.
#include "engine.h"
#include "methods.h"
#include "tables.h"

namespace deeplinear {
namespace {

// The terms of a row of a tableau whose coefficients are not zero.
int terms_of(const double *row, double h, double *const *slopes, int count, Times *terms) {
    int used = 0;
    for (int i = 0; i < count; i++)
        if (row[i] != 0) terms[used++] = {h * row[i], slopes[i]};
    return used;
}

}  // namespace

Trial dopri8_step(const Problem &problem, Workspace &work, Start from, double h, Tolerances tolerances, Start to) {
    using namespace dopri8;
    const size_t size = problem.layout.size();
    double *slopes[STAGES + 1] = {from.slope}, *point = work.vectors[STAGES], *error = point;
    for (int i = 1; i < STAGES; i++) slopes[i] = work.vectors[i];
    slopes[STAGES] = to.slope;
    Times terms[STAGES + 1];
    for (int i = 1; i < STAGES && !problem.stopped(); i++) {
        combine(point, from.network, terms, terms_of(A[i], h, slopes, i, terms), size);
        velocity(problem, work.chain, point, slopes[i]);
    }
    combine(to.network, from.network, terms, terms_of(B, h, slopes, STAGES, terms), size);
    velocity(problem, work.chain, to.network, to.slope);
    sizes_of(problem.layout, from.network, tolerances, work.sizes);
    combine(error, nullptr, terms, terms_of(E5, 1, slopes, STAGES + 1, terms), size);
    const double fifth = relative_norm(error, work.sizes, problem.layout);
    combine(error, nullptr, terms, terms_of(E3, 1, slopes, STAGES + 1, terms), size);
    const double third = relative_norm(error, work.sizes, problem.layout);
    const double both = sqrt(fifth * fifth + 0.01 * third * third);
    const bool finite = is_finite(norm(to.slope, size));
    return {finite ? h * fifth * fifth / (both > 0 ? both : 1.0) : INFINITY, STAGES, DEEPLINEAR_STEP_DOPRI8};
}

}  // namespace deeplinear
