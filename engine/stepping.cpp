#include "stepping.h"

#include <float.h>
#include <time.h>

#include "engine.h"

namespace deeplinear {
namespace {

constexpr double SHRINK = 0.1, GROW = 5;      // bounds of the change of a step size
constexpr double NEGLIGIBLE = 1e-4;           // error in units of the tolerance below which it tells no trend
constexpr double SHORTEST = 1e-300;           // step below which a run has stalled, whatever the time
constexpr double TIME_SPACING = 1.0 / 100;    // distance of chosen outputs, as a share of the time so far
constexpr double MATRIX_SPACING = 1.0 / 250;  // and as a share of the size of W

double seconds_now() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

// x^(1/order) for order 4 or 8: by square roots, which every processor rounds alike.
double root_of(double x, int order) {
    x = sqrt(sqrt(x));
    return order == 8 ? sqrt(x) : x;
}

double matrix_norm(const Matrix &M) { return norm(M.at, room_of_rows(M.rows) * M.stride); }
void copy_matrix(const Matrix &to, const Matrix &from) { copy(to.at, from.at, room_of_rows(from.rows) * from.stride); }

}  // namespace

Integration Integration::of(const Problem &problem, const Settings &settings, Arena &arena) {
    const Layout &layout = problem.layout;
    Integration made = {};
    made.problem = problem;
    made.settings = settings;
    made.work = Workspace::of(problem, settings.method, arena);
    made.now.network = layout.network(arena), made.now.slope = layout.network(arena);
    made.trial = {layout.network(arena), layout.network(arena)};
    made.now.spectrum.vector = layout.network(arena), made.trial_vector = layout.network(arena);
    made.now.recorded = arena.matrix(problem.rows(), problem.columns());
    made.W = arena.matrix(problem.rows(), problem.columns());
    made.W_before = arena.matrix(problem.rows(), problem.columns());
    made.times = arena.array<double>(size_t(settings.outputs));
    size_t numbers = 0;
    if (__builtin_mul_overflow(size_t(settings.outputs), layout.size(), &numbers)) numbers = SIZE_MAX;
    made.outputs = arena.array<double>(numbers);
    made.log = arena.array<double>(size_t(settings.log) * DEEPLINEAR_LOG_WIDTH);
    made.now.grows = true;
    made.now.choice = first_choice();
    return made;
}

// The state before the first step, whose size follows from the first two derivatives; false where it was stopped.
//
// Source: Hairer, Norsett and Wanner (1993), section II.4, on the norm of all weights.
bool Integration::begin() {
    const size_t size = problem.layout.size();
    Progress &p = now;
    velocity(problem, work.chain, p.network, p.slope);
    const Start here = {p.network, p.slope};
    int64_t spent = 2;
    if (settings.method == Method::ROCK4 || settings.method == Method::AUTO)
        spent += begin_spectrum(problem, work, here, p.spectrum);
    const double scale = scale_of(problem, p.network), length = scale > 0 ? scale : 1;
    const double speed = greater(norm(p.slope, size), DBL_MIN), probe = 0.01 * length / speed;
    plus(trial.network, p.network, probe, p.slope, size);
    velocity(problem, work.chain, trial.network, trial.slope);
    plus(trial.slope, trial.slope, -1, p.slope, size);
    const double bend = norm(trial.slope, size) / probe;
    p.h = lesser(100 * probe, root_of(settings.tolerances.rtol, 4) * length / greater(speed, sqrt(length * bend)));
    if (problem.stopped()) return false;
    p.evaluations = spent, p.time_unit = p.h, p.last_h = p.h, p.last_error = 1;
    end_to_end(problem, p.network, work.chain, W);
    copy_matrix(p.recorded, W);
    const double at_start = gradient_norm(problem, W, work.chain);
    clear(W.at, room_of_rows(W.rows) * W.stride);
    p.noise = DBL_EPSILON * (at_start + gradient_norm(problem, W, work.chain));
    p.begun = true;
    if (!settings.times || settings.times[0] == 0) record();
    if (settings.times && p.reached == settings.count) p.status = DEEPLINEAR_REACHED;
    return true;
}

void Integration::advance(int64_t steps, double seconds) {
    recorded_outputs = logged = 0;
    matrix_size = matrix_norm(problem.optimum);
    const double until = seconds_now() + seconds;
    if (!now.begun && !begin()) return;
    while (now.status == DEEPLINEAR_RUNNING && steps-- > 0 && recorded_outputs < settings.outputs &&
           (settings.log == 0 || logged < settings.log))
        if (!try_step() || seconds_now() > until) return;
}

void Integration::record() {
    times[recorded_outputs] = now.t;
    copy(outputs + size_t(recorded_outputs) * problem.layout.size(), now.network, problem.layout.size());
    recorded_outputs++;
    now.reached++;
}

// One step, accepted or rejected; false where it was stopped and nothing has changed.
bool Integration::try_step() {
    const size_t size = problem.layout.size();
    Progress &p = now;
    const bool chosen = !settings.times;
    const double longest_t = chosen ? TIME_SPACING * settings.spread * greater(p.recorded_t, p.time_unit) : INFINITY;
    const double reference = fmax(matrix_size, matrix_norm(p.recorded));
    const double longest_W = chosen ? MATRIX_SPACING * settings.spread * greater(reference, 1e-300) : INFINITY;
    const double target = chosen ? settings.max_time : settings.times[p.reached];
    bool on_target;
    const double h = length(longest_t, longest_W, target, on_target);
    const Start here = {p.network, p.slope};
    const bool implicit = settings.method == Method::RODAS4 || (settings.method == Method::AUTO && p.choice.implicit);
    const bool spectral = settings.method == Method::ROCK4 || settings.method == Method::AUTO;
    const Trial step = settings.method == Method::DOPRI8
                           ? dopri8_step(problem, work, here, h, settings.tolerances, trial)
                       : implicit ? rosenbrock_step(problem, work, here, h, settings.tolerances, trial)
                                  : stabilised_step(problem, work, here, h, p.spectrum, settings.tolerances, trial);
    // false for NaN: overflow in a trial step is a step too long; and time moves, or the run has stalled
    const bool accepted = step.error <= 1 && p.t + h > p.t;
    Spectrum spectrum = {trial_vector, p.spectrum.radius, p.spectrum.age};
    int64_t learned = 0;
    if (spectral) {
        copy(trial_vector, p.spectrum.vector, size);
        learned = refresh_spectrum(problem, work, accepted ? trial : here, accepted, spectrum);
    }
    if (problem.stopped()) return false;
    write_log(p.t, h, step, accepted);
    const double before = p.t;
    p.h = next_length(h, step.error, accepted);
    if (spectral) {
        trial_vector = p.spectrum.vector, p.spectrum = spectrum;
        if (settings.method == Method::AUTO)
            p.choice = next_choice(p.choice, accepted, h, longest_stable(spectrum), step.spent);
    }
    if (chosen && accepted) end_to_end(problem, p.network, work.chain, W_before);
    if (accepted) {
        p.t = on_target ? target : p.t + h;
        p.network = trial.network, p.slope = trial.slope, trial = here;
    }
    p.grows = accepted;
    p.steps += accepted, p.rejected += !accepted, p.evaluations += step.spent + learned;
    // in this form NaN stalls too: the start or its slope was beyond float64
    p.status = p.h >= greater(1e-14 * p.t, SHORTEST) ? DEEPLINEAR_RUNNING : DEEPLINEAR_STALLED;
    const double last = chosen ? settings.max_time : settings.times[settings.count - 1];
    if (p.t >= last) p.status = DEEPLINEAR_REACHED;
    const bool far = chosen && look(accepted, p.t - before, longest_t, longest_W);
    if (accepted && (on_target || (chosen && (far || p.status != DEEPLINEAR_RUNNING)))) record();
    return true;
}

// The step to try, within stability and the spacing of outputs, and whether it lands on the target.
double Integration::length(double longest_t, double longest_W, double target, bool &on_target) const {
    const bool free = settings.method == Method::RODAS4 || settings.method == Method::DOPRI8 ||
                      (settings.method == Method::AUTO && now.choice.implicit);
    const double by_path = lesser(longest_t, longest_W / greater(now.speed, 1e-300));
    const double h = lesser(lesser(now.h, free ? INFINITY : longest_stable(now.spectrum)), by_path);
    const double left = target - now.t;
    on_target = 1.01 * h >= left;
    // two equal steps to the target rather than a long one and a stub
    return on_target ? left : 2 * h > left ? left / 2 : h;
}

// The step to try after one of length h. Error is taken to behave like h^order; where it has grown from step to step,
// it is expected to go on growing.
//
// Source: Gustafsson (1994), ACM Trans. Math. Softw. 20, 496-517; Hairer and Wanner (1996), section IV.8, eq. (8.25).
double Integration::next_length(double h, double error, bool accepted) {
    const Character character = character_of(settings.method);
    error = error == error ? clipped(error, 1e-12, 1e12) : 1e12;
    double factor = character.safety / root_of(error, character.order);
    const bool may_grow = accepted && now.grows;
    if (may_grow) factor *= lesser(h / now.last_h * root_of(now.last_error / error, character.order), 1);
    // a step that was cut to land on an output and shows no error says little about the next
    const bool blind = accepted && h < now.h && factor >= GROW;
    factor = clipped(factor, SHRINK, may_grow ? GROW : 1);
    if (accepted) now.last_h = h, now.last_error = greater(error, NEGLIGIBLE);
    return blind ? greater(h * factor, now.h) : h * factor;
}

// After a step of a run that chooses its outputs and its end: whether an output is due, and whether it is over.
bool Integration::look(bool accepted, double lasted, double longest_t, double longest_W) {
    const Layout &layout = problem.layout;
    Progress &p = now;
    end_to_end(problem, p.network, work.chain, W);
    if (p.status != DEEPLINEAR_REACHED) {
        const double rounding = p.noise * sensitivity(layout, p.network);
        if (norm(p.slope, layout.size()) <= rounding && is_finite(rounding)) p.status = DEEPLINEAR_STATIONARY;
        if (excess(problem, W, work.chain) <= settings.goal) p.status = DEEPLINEAR_GOAL;
    }
    if (!accepted) return false;
    const size_t size = room_of_rows(W.rows) * W.stride;
    plus(W_before.at, W.at, -1, W_before.at, size);
    p.speed = matrix_norm(W_before) / lasted;
    plus(W_before.at, W.at, -1, p.recorded.at, size);
    const bool far = p.t - p.recorded_t >= longest_t / 2 || matrix_norm(W_before) >= longest_W / 2;
    if (far || p.status != DEEPLINEAR_RUNNING) {
        copy_matrix(p.recorded, W);
        p.recorded_t = p.t;
    }
    return far;
}

void Integration::write_log(double t, double h, const Trial &step, bool accepted) {
    if (settings.log == 0) return;
    double *row = log + size_t(logged++) * DEEPLINEAR_LOG_WIDTH;
    const double numbers[DEEPLINEAR_LOG_WIDTH] = {
        t, h, step.error, double(step.spent), now.spectrum.radius, double(step.family), double(accepted)};
    for (int i = 0; i < DEEPLINEAR_LOG_WIDTH; i++) row[i] = numbers[i];
}

Workspace Workspace::of(const Problem &problem, Method method, Arena &arena) {
    const Layout &layout = problem.layout;
    Workspace made = {};
    made.chain = Chain::of(problem, arena);
    if (method == Method::RODAS4 || method == Method::AUTO) {
        made.base = Chain::of(problem, arena), made.moved = Chain::of(problem, arena);
        made.inverse = Preconditioner::of(problem, arena);
    }
    for (double *&vector : made.vectors) vector = layout.network(arena);
    made.noise = layout.network(arena);
    made.sizes = arena.array<double>(layout.depth);
    return made;
}

}  // namespace deeplinear
