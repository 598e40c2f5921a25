// The C interface.
#include "engine.h"

#include <float.h>

#include "door.h"
#include "linear_algebra.h"
#include "packing.h"

using namespace deeplinear;

struct deeplinear_run {
    Arena arena;  // of everything else, this struct included
    Door door;
    Integration integration;
    size_t weights;
    uint64_t question;  // `hash_of` what was asked
};

int32_t deeplinear_abi(void) { return DEEPLINEAR_ABI; }

const char *deeplinear_sources(void) { return DEEPLINEAR_SOURCES; }

double deeplinear_bytes(const deeplinear_problem *problem, const deeplinear_settings *settings) {
    if (weights_of(*problem) == 0) return INFINITY;
    const int h = problem->depth;
    double d_x = problem->widths[0], d_y = problem->widths[h], thin = lesser(d_x, d_y), wide = greater(d_x, d_y);
    double network = 0, chain = 2 * d_x * d_y;
    for (int l = 0; l < h; l++) {
        network += double(problem->widths[l + 1]) * (problem->widths[l] + 4.0);
        chain += 3 * (thin + 4) * (greater(problem->widths[l], problem->widths[l + 1]) + 4.0);
    }
    const double k = problem->root ? problem->rank : 0.0;
    const bool implicit = settings->method == DEEPLINEAR_RODAS4 || settings->method == DEEPLINEAR_AUTO;
    double numbers = (24 + double(settings->outputs)) * network + (implicit ? 3 : 1) * chain;
    numbers += DEEPLINEAR_LOG_WIDTH * double(settings->log);
    numbers += k * k + 2 * k * d_x + (k > 0 ? d_x * d_x : 0.0) + 4 * d_x * d_y;
    numbers += double(room_to_pack(*problem));
    if (implicit && wide <= Preconditioner::WIDEST)
        numbers += 6 * chain + (h + 4) * (d_x * d_x + d_y * d_y) + (k > 0 ? double(Preconditioner::MOST_IN_BLOCKS) : 0);
    return 8 * numbers;
}

namespace {

constexpr double GOLDEN = 0.6180339887498949;

// A run in an arena that still belongs to the caller, or the refusal.
int32_t begin(const deeplinear_problem &problem, const deeplinear_settings &settings, const double *weights,
              Arena &arena, deeplinear_run *&run) {
    run = arena.array<deeplinear_run>(1);
    double *times = settings.times ? arena.array<double>(size_t(settings.count)) : nullptr;
    if (arena.failed) return DEEPLINEAR_NO_MEMORY;
    Problem inside;
    if (const int32_t refused = prepare(problem, arena, inside, run->door)) return refused;
    if (times) memcpy(times, settings.times, size_t(settings.count) * sizeof(double));
    const Method method = Method(settings.method);
    // a relative error of every one of h layers makes one h times as large in their product
    const double share = character_of(method).calibration / problem.depth;
    const Tolerances of_a_step = {share * settings.rtol, share * settings.atol};
    const Settings own = {method,        of_a_step,     times,           settings.count, settings.max_time,
                          settings.goal, settings.spread, settings.outputs, settings.log};
    run->integration = Integration::of(inside, own, arena);
    if (arena.failed) return DEEPLINEAR_NO_MEMORY;
    if (!run->door.take(run->integration.now.network, weights)) return DEEPLINEAR_BAD_NUMBERS;
    // the fractional parts of multiples of the golden ratio
    run->door.for_each(run->integration.work.noise, [&](double &entry, size_t, int l, size_t i) {
        const double size = double(problem.widths[l]) * problem.widths[l + 1], x = double(i + 1) * GOLDEN;
        entry = (x - floor(x) - 0.5) / sqrt(size / 12);
    });
    run->weights = size_t(weights_of(problem));
    run->question = hash_of(problem, settings);
    return DEEPLINEAR_FINE;
}

}  // namespace

int32_t deeplinear_begin(const deeplinear_problem *problem, const deeplinear_settings *settings, const double *weights,
                         deeplinear_run **run) {
    *run = nullptr;
    if (const int32_t refused = refusal_of(*problem)) return refused;
    if (const int32_t refused = refusal_of(*settings)) return refused;
    Arena arena;
    deeplinear_run *made;
    if (const int32_t refused = begin(*problem, *settings, weights, arena, made)) {
        arena.free_all();
        return refused;
    }
    made->arena = arena;
    *run = made;
    return DEEPLINEAR_FINE;
}

void deeplinear_advance(deeplinear_run *run, int64_t steps, double seconds, const volatile int32_t *stop) {
    run->integration.problem.stop = stop ? stop : &NEVER;
    run->integration.advance(steps, seconds);
    run->integration.problem.stop = &NEVER;
}

void deeplinear_summarise(const deeplinear_run *run, deeplinear_summary *summary) {
    const Integration &from = run->integration;
    const Progress &now = from.now;
    const Layout &layout = run->door.layout;
    double slope = now.begun ? 0 : NAN;
    for (int l = 0; l < layout.depth && now.begun; l++) {
        const double unit = run->door.units[run->door.flipped ? layout.depth - 1 - l : l];
        slope = hypot(slope, unit * norm(now.slope + layout.offset[l], layout.offset[l + 1] - layout.offset[l]));
    }
    *summary = {now.status, now.steps, now.rejected,          now.evaluations,
                now.t,      slope,     from.recorded_outputs, from.logged};
}

void deeplinear_outputs(const deeplinear_run *run, double *times, double *weights) {
    const Integration &from = run->integration;
    for (int64_t i = 0; i < from.recorded_outputs; i++) {
        times[i] = from.times[i];
        run->door.give(from.outputs + size_t(i) * run->door.layout.size(), weights + size_t(i) * run->weights);
    }
}

void deeplinear_log(const deeplinear_run *run, double *rows) {
    const Integration &from = run->integration;
    if (from.logged) memcpy(rows, from.log, size_t(from.logged) * DEEPLINEAR_LOG_WIDTH * sizeof(double));
}

void deeplinear_weights(const deeplinear_run *run, double *weights) {
    run->door.give(run->integration.now.network, weights);
}

namespace {

constexpr int64_t STATE_NUMBERS = 26;  // single numbers in a state

// The single numbers of a state, out or in, in one list: what is written is what is read.
template <class F> void state_numbers(Progress &p, F number) {
    const auto whole = [](double x) { return x >= 0 && x < 9007199254740992.0 ? int64_t(x) : -1; };  // -1: damaged
    const auto count = [&](int64_t &n) { number([&] { return double(n); }, [&](double x) { n = whole(x); }); };
    const auto flag = [&](bool &b) { number([&] { return double(b); }, [&](double x) { b = x != 0; }); };
    const auto real = [&](double &r) { number([&] { return r; }, [&](double x) { r = x; }); };
    real(p.t), real(p.h), real(p.last_h), real(p.last_error), real(p.recorded_t), real(p.speed), real(p.time_unit);
    real(p.noise), real(p.spectrum.radius), real(p.choice.spent), real(p.choice.saved);
    count(p.spectrum.age), count(p.choice.streak), count(p.choice.patience);
    count(p.steps), count(p.rejected), count(p.evaluations), count(p.reached);
    flag(p.grows), flag(p.choice.implicit), flag(p.begun);
    number([&] { return double(p.status); }, [&](double x) { p.status = int(whole(x) < 100 ? whole(x) : -1); });
}

// Whether what was read can have been written.
bool sound(const Progress &p, const Settings &settings) {
    const int64_t counts[] = {p.spectrum.age, p.choice.streak, p.choice.patience, p.steps,
                              p.rejected,     p.evaluations,   p.reached};
    for (int64_t count : counts)
        if (count < 0) return false;
    const bool over = settings.times && p.reached >= settings.count;
    return p.status >= DEEPLINEAR_RUNNING && p.status <= DEEPLINEAR_STALLED && p.t >= 0 &&
           (!over || (p.reached == settings.count && p.status == DEEPLINEAR_REACHED));
}

}  // namespace

int64_t deeplinear_state_size(const deeplinear_run *run) {
    const Layout &layout = run->door.layout;
    return STATE_NUMBERS + 3 * int64_t(run->weights) + int64_t(layout.widths[0]) * layout.widths[layout.depth];
}

void deeplinear_state_export(const deeplinear_run *run, double *state) {
    Progress &p = const_cast<deeplinear_run *>(run)->integration.now;
    *state++ = DEEPLINEAR_ABI;
    *state++ = double(deeplinear_state_size(run));
    *state++ = double(run->question >> 32);
    *state++ = double(run->question & UINT32_MAX);
    state_numbers(p, [&](auto get, auto) { *state++ = get(); });
    double *const networks[] = {p.network, p.slope, p.spectrum.vector};
    for (double *network : networks) run->door.for_each(network, [&](double &x, size_t, int, size_t) { *state++ = x; });
    for (int i = 0; i < p.recorded.rows; i++)
        for (int j = 0; j < p.recorded.columns; j++) *state++ = p.recorded.row(i)[j];
}

int32_t deeplinear_state_import(deeplinear_run *run, const double *state) {
    Progress &p = run->integration.now;
    const double expected[] = {DEEPLINEAR_ABI, double(deeplinear_state_size(run)), double(run->question >> 32),
                               double(run->question & UINT32_MAX)};
    for (double number : expected)
        if (*state++ != number) return DEEPLINEAR_BAD_STATE;
    Progress read = p;
    state_numbers(read, [&](auto, auto set) { set(*state++); });
    if (!sound(read, run->integration.settings) || refusal_of(state, run->weights)) return DEEPLINEAR_BAD_STATE;
    p = read;
    double *const networks[] = {p.network, p.slope, p.spectrum.vector};
    for (double *network : networks) run->door.for_each(network, [&](double &x, size_t, int, size_t) { x = *state++; });
    for (int i = 0; i < p.recorded.rows; i++)
        for (int j = 0; j < p.recorded.columns; j++) p.recorded.row(i)[j] = *state++;
    return DEEPLINEAR_FINE;
}

void deeplinear_free(deeplinear_run *run) {
    if (!run) return;
    Arena arena = run->arena;  // the run itself lies in it
    arena.free_all();
}

namespace {

// f(problem, door, arena) with what a single evaluation needs, or the refusal.
template <class F> int32_t once(const deeplinear_problem &given, F f) {
    int32_t refused = refusal_of(given);
    if (refused) return refused;
    Arena arena;
    Problem problem;
    Door door;
    refused = prepare(given, arena, problem, door);
    if (!refused) refused = f(problem, door, arena);
    arena.free_all();
    return refused;
}

}  // namespace

int32_t deeplinear_velocity(const deeplinear_problem *given, const double *weights, double *slopes) {
    return once(*given, [&](const Problem &problem, const Door &door, Arena &arena) {
        Chain chain = Chain::of(problem, arena);
        double *network = problem.layout.network(arena), *out = problem.layout.network(arena);
        if (arena.failed) return DEEPLINEAR_NO_MEMORY;
        if (!door.take(network, weights)) return DEEPLINEAR_BAD_NUMBERS;
        velocity(problem, chain, network, out);
        door.give(out, slopes);
        return DEEPLINEAR_FINE;
    });
}

int32_t deeplinear_derivative(
    const deeplinear_problem *given, const double *weights, const double *direction, double *result) {
    return once(*given, [&](const Problem &problem, const Door &door, Arena &arena) {
        Chain at = Chain::of(problem, arena), moved = Chain::of(problem, arena);
        double *network = problem.layout.network(arena), *along = problem.layout.network(arena),
               *out = problem.layout.network(arena);
        if (arena.failed) return DEEPLINEAR_NO_MEMORY;
        if (!door.take(network, weights) || !door.take(along, direction)) return DEEPLINEAR_BAD_NUMBERS;
        velocity(problem, at, network, out);
        derivative(problem, at, moved, network, along, out);
        door.give(out, result);
        return DEEPLINEAR_FINE;
    });
}

int32_t deeplinear_svd(int32_t rows, int32_t columns, const double *A, double *U, double *s, double *V) {
    if (rows < 1 || columns < 1 || rows > INT32_MAX - 64 || columns > INT32_MAX - 64) return DEEPLINEAR_BAD_SIZES;
    if (const int32_t refused = refusal_of(A, size_t(rows) * columns)) return refused;
    // rows are turned, and the fewer there are the better
    const bool flipped = rows > columns;
    const int few = flipped ? columns : rows, many = flipped ? rows : columns;
    Arena arena;
    const Matrix M = arena.matrix(few, many), J = arena.matrix(few, few);
    double *squares = arena.array<double>(few);
    int *order = arena.array<int>(few);
    if (arena.failed) {
        arena.free_all();
        return DEEPLINEAR_NO_MEMORY;
    }
    double largest = 0;
    for (size_t i = 0; i < size_t(rows) * columns; i++) largest = greater(largest, fabs(A[i]));
    const double unit = largest > 0 ? largest : 1.0;  // squares neither overflow nor vanish
    fill(M, A, flipped, 1);
    for (int i = 0; i < few; i++)
        for (int j = 0; j < many; j++) M.row(i)[j] /= unit;
    orthogonalise(M, J, squares, many * DBL_EPSILON);
    for (int i = 0; i < few; i++) {  // sorted by insertion
        int k = i;
        for (; k > 0 && squares[order[k - 1]] < squares[i]; k--) order[k] = order[k - 1];
        order[k] = i;
    }
    for (int k = 0; k < few; k++) {
        const int from = order[k];
        const double size = sqrt(squares[from]);
        s[k] = unit * size;
        for (int i = 0; i < few; i++) (flipped ? V : U)[size_t(i) * few + k] = J.row(from)[i];
        for (int j = 0; j < many; j++) (flipped ? U : V)[size_t(j) * few + k] = size > 0 ? M.row(from)[j] / size : 0.0;
    }
    arena.free_all();
    return DEEPLINEAR_FINE;
}

int32_t deeplinear_product(int32_t rows, int32_t columns, int32_t inner, int32_t transposed, int64_t times,
                           const double *A, const double *B, double *C) {
    const int32_t sides[] = {rows, columns, inner};
    for (int32_t side : sides)
        if (side < 1 || side > INT32_MAX - 64) return DEEPLINEAR_BAD_SIZES;
    if (times < 1) return DEEPLINEAR_BAD_SIZES;
    Arena arena;
    const Matrix left = transposed ? arena.matrix(inner, rows) : arena.matrix(rows, inner),
                 right = arena.matrix(inner, columns), product = arena.matrix(rows, columns);
    const int widest = rows > columns ? rows : columns;
    const size_t room = room_to_pack(widest > inner ? widest : inner);
    double *packing = room ? arena.array<double>(room) : nullptr;
    if (arena.failed) {
        arena.free_all();
        return DEEPLINEAR_NO_MEMORY;
    }
    fill(left, A, false, 1), fill(right, B, false, 1);
    for (int64_t i = 0; i < times; i++) multiply(product, Factors(left, right, transposed), packing);
    for (int i = 0; i < rows; i++) memcpy(C + size_t(i) * columns, product.row(i), size_t(columns) * sizeof(double));
    arena.free_all();
    return DEEPLINEAR_FINE;
}
