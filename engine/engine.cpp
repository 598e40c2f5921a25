// The door: checks what it is given, copies it into the engine's own layout, and hands results out again.
//
// Two changes of variables make every problem one of the field's kind (field.h):
//
// - Where inputs are fewer than outputs, the chain is transposed: W^T = W_1^T ... W_h^T moves by the same flow.
// - Layer rates eta_l are units of length: with W_l = sqrt(eta_l) V_l the flow of V is a gradient flow with rates 1, decay
//   eta_l gamma_l, and, with a the product of all sqrt(eta_l), W* / a and c a^2 in place of W* and c.
#include "engine.h"

#include "linear_algebra.h"
#include "stepping.h"

using namespace deeplinear;

namespace {

constexpr double WORST_CONDITION = 1e8;  // of T^T T up to which Sigma is formed: eight digits are left in slow directions
constexpr double GOLDEN = 0.6180339887498949;
constexpr int64_t MOST_NUMBERS = INT64_MAX / 4096;  // of a network: no count of bytes overflows
const volatile int32_t NEVER = 0;

// How networks are handed in and out.
struct Door {
    Layout layout;
    bool flipped;
    const double *units;  // [l] sqrt(eta), l as the caller counts

    // f(entry inside, position outside, layer outside, entries of that layer before it)
    template <class F> void for_each(double *network, F f) const {
        size_t outside = 0;
        for (int l = 0; l < layout.depth; l++) {
            const Matrix inside = layout.layer(network, flipped ? layout.depth - 1 - l : l);
            const int rows = flipped ? inside.columns : inside.rows, columns = flipped ? inside.rows : inside.columns;
            size_t within = 0;
            for (int i = 0; i < rows; i++)
                for (int j = 0; j < columns; j++)
                    f(flipped ? inside.row(j)[i] : inside.row(i)[j], outside++, l, within++);
        }
    }

    void take(double *network, const double *given) const {
        for_each(network, [&](double &entry, size_t i, int l, size_t) { entry = given[i] / units[l]; });
    }
    void give(const double *network, double *out) const {
        for_each(const_cast<double *>(network), [&](double &entry, size_t i, int l, size_t) { out[i] = entry * units[l]; });
    }
    void take_bits(double *network, const double *given) const {
        for_each(network, [&](double &entry, size_t i, int, size_t) { entry = given[i]; });
    }
    void give_bits(const double *network, double *out) const {
        for_each(const_cast<double *>(network), [&](double &entry, size_t i, int, size_t) { out[i] = entry; });
    }
};

bool all_finite(const double *numbers, size_t count) {
    bool finite = true;
    for (size_t i = 0; i < count; i++) finite &= is_finite(numbers[i]);
    return finite;
}

// The number of weights, or 0 where sizes make no sense.
int64_t weights_of(const deeplinear_problem &given) {
    if (given.depth < 1 || given.depth > 1 << 20) return 0;
    int64_t sum = 0, most = int64_t(given.widths[given.depth]) * given.widths[0];
    for (int l = 0; l <= given.depth; l++)
        if (given.widths[l] < 1 || given.widths[l] > INT32_MAX - 64) return 0;
    for (int l = 0; l < given.depth; l++) {
        sum += int64_t(given.widths[l]) * given.widths[l + 1];
        if (sum > MOST_NUMBERS) return 0;
    }
    return most > MOST_NUMBERS ? 0 : sum;
}

int32_t check(const deeplinear_problem &given) {
    const int64_t n = weights_of(given);
    if (n == 0 || (given.root && (given.rank < 1 || given.rank > INT32_MAX - 64))) return DEEPLINEAR_BAD_SIZES;
    const size_t d_x = size_t(given.widths[0]), d_y = size_t(given.widths[given.depth]);
    bool sound = all_finite(given.optimum, d_x * d_y) && is_finite(given.factor) && given.factor > 0;
    sound &= !given.root || all_finite(given.root, d_x * size_t(given.rank));
    for (int l = 0; l < given.depth; l++) {
        if (given.rates) sound &= is_finite(given.rates[l]) && given.rates[l] > 0;
        if (given.decay) sound &= is_finite(given.decay[l]) && given.decay[l] >= 0;
    }
    return sound ? DEEPLINEAR_FINE : DEEPLINEAR_BAD_NUMBERS;
}

int32_t check(const deeplinear_settings &given) {
    if (given.method < DEEPLINEAR_ROCK4 || given.method > DEEPLINEAR_AUTO || given.outputs < 1 || given.log < 0 ||
        given.outputs > MOST_NUMBERS || given.log > MOST_NUMBERS || (given.times && given.count < 1))
        return DEEPLINEAR_BAD_SIZES;
    const bool sound = is_finite(given.rtol) && given.rtol > 0 && is_finite(given.atol) && given.atol > 0 &&
                       given.goal == given.goal && is_finite(given.spread) && given.spread >= 1;
    if (!sound) return DEEPLINEAR_BAD_NUMBERS;
    if (!given.times) return given.max_time > 0 ? DEEPLINEAR_FINE : DEEPLINEAR_BAD_TIMES;
    for (int64_t i = 0; i < given.count; i++)
        if (!is_finite(given.times[i]) || given.times[i] < 0 || (i > 0 && !(given.times[i] > given.times[i - 1])))
            return DEEPLINEAR_BAD_TIMES;
    return DEEPLINEAR_FINE;
}

// Fills a matrix from rows without gaps, or its transpose; times `factor`.
void fill(const Matrix &M, const double *given, bool flipped, double factor) {
    for (int i = 0; i < M.rows; i++)
        for (int j = 0; j < M.columns; j++)
            M.row(i)[j] = factor * given[flipped ? size_t(j) * M.rows + i : size_t(i) * M.columns + j];
}

// Sigma formed once, or both factors T and T^T in every evaluation: whichever is cheaper, unless small variances would
// be lost among the rounding of large ones.
Inputs inputs_of(const deeplinear_problem &given, bool flipped, Arena &arena) {
    Inputs made;
    made.flipped = flipped;
    if (!given.root) return made;
    const int d = given.widths[0], k = given.rank;
    made.form = Inputs::ROOT;
    made.root = arena.matrix(d, k), made.root_transposed = arena.matrix(k, d);
    if (arena.failed) return made;
    fill(made.root, given.root, false, 1);
    transpose(made.root, made.root_transposed);
    if (d > 2 * int64_t(k)) return made;
    const Matrix gram = arena.matrix(k, k), sigma = arena.matrix(d, d);
    if (arena.failed) return made;
    multiply(gram, Factors(made.root_transposed, made.root));
    if (pivot_ratio(gram) > WORST_CONDITION) return made;
    made.form = Inputs::FORMED;
    made.sigma = sigma;
    multiply(sigma, Factors(made.root, made.root_transposed));
    return made;
}

// The problem in the engine's layout and units.
bool prepare(const deeplinear_problem &given, Arena &arena, Problem &problem, Door &door) {
    const int h = given.depth, d_y = given.widths[h], d_x = given.widths[0];
    const bool flipped = d_y > d_x;
    int *widths = arena.array<int>(h + 1);
    size_t *offset = arena.array<size_t>(h + 1);
    double *units = arena.array<double>(h), *decay = given.decay ? arena.array<double>(h) : nullptr;
    if (arena.failed) return false;
    double whole = 1;
    for (int l = 0; l <= h; l++) widths[l] = given.widths[flipped ? h - l : l];
    for (int l = 0; l < h; l++) {
        const double rate = given.rates ? given.rates[l] : 1.0;
        units[l] = sqrt(rate), whole *= units[l];
        if (decay) decay[flipped ? h - 1 - l : l] = rate * given.decay[l];
        offset[l + 1] = offset[l] + (size_t(widths[l + 1]) * stride_of(widths[l]) + 7) / 8 * 8;
    }
    problem.layout = {h, widths, offset};
    problem.decay = decay, problem.mask = nullptr, problem.stop = &NEVER;
    problem.factor = given.factor * whole * whole;
    problem.optimum = arena.matrix(widths[h], widths[0]);
    if (arena.failed) return false;
    fill(problem.optimum, given.optimum, flipped, 1 / whole);
    problem.inputs = inputs_of(given, flipped, arena);
    door = {problem.layout, flipped, units};
    if (given.mask) {
        double *mask = problem.layout.network(arena);
        if (arena.failed) return false;
        const uint64_t all = UINT64_MAX;
        door.for_each(mask, [&](double &entry, size_t i, int, size_t) {
            if (given.mask[i]) memcpy(&entry, &all, sizeof all);
        });
        problem.mask = reinterpret_cast<const uint64_t *>(mask);
    }
    return !arena.failed;
}

// A hash of everything that decides how a run goes on, eight bytes at a time (Fowler, Noll and Vo).
struct Hash {
    uint64_t value = 14695981039346656037u;
    void add(const void *data, size_t bytes) {
        const uint8_t *from = static_cast<const uint8_t *>(data);
        for (size_t i = 0; i < bytes; i += 8) {
            uint64_t word = 0;
            memcpy(&word, from + i, bytes - i < 8 ? bytes - i : 8);
            value = (value ^ word) * 1099511628211u;
        }
    }
};

uint64_t hash_of(const deeplinear_problem &problem, const deeplinear_settings &settings) {
    const size_t h = size_t(problem.depth), d_x = size_t(problem.widths[0]), d_y = size_t(problem.widths[h]);
    Hash hash;
    hash.add(problem.widths, (h + 1) * sizeof(int32_t));
    hash.add(problem.optimum, d_x * d_y * sizeof(double));
    if (problem.root) hash.add(problem.root, d_x * size_t(problem.rank) * sizeof(double));
    if (problem.rates) hash.add(problem.rates, h * sizeof(double));
    if (problem.decay) hash.add(problem.decay, h * sizeof(double));
    if (problem.mask) hash.add(problem.mask, size_t(weights_of(problem)));
    if (settings.times) hash.add(settings.times, size_t(settings.count) * sizeof(double));
    const double numbers[] = {problem.factor, double(problem.rank), double(settings.method), settings.rtol,
                              settings.atol,  settings.max_time,    settings.goal,           settings.spread};
    hash.add(numbers, sizeof numbers);
    return hash.value;
}

}  // namespace

struct deeplinear_run {
    Arena arena;
    Door door;
    Integration integration;
    size_t weights;
    double *times;
    uint64_t question;
};

int32_t deeplinear_abi(void) { return DEEPLINEAR_ABI; }

const char *deeplinear_sources(void) { return DEEPLINEAR_SOURCES; }

int32_t deeplinear_processor(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool third = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    const bool fourth = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512cd");
    return third && fourth ? 4 : third ? 3 : 1;
#else
    return 1;
#endif
}

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
    double numbers = (24 + double(settings->outputs)) * network + (implicit ? 3 : 1) * chain + 7.0 * double(settings->log);
    numbers += k * k + 2 * k * d_x + (k > 0 ? d_x * d_x : 0.0) + 4 * d_x * d_y;
    if (implicit && wide <= 400) numbers += h * (6 * chain / h + d_x * d_x + d_y * d_y) + 8 * wide * wide + 4194304.0 * (k > 0);
    return 8 * numbers;
}

int32_t deeplinear_begin(const deeplinear_problem *problem, const deeplinear_settings *settings, const double *weights,
                         deeplinear_run **run) {
    *run = nullptr;
    if (const int32_t refused = check(*problem)) return refused;
    if (const int32_t refused = check(*settings)) return refused;
    const size_t n = size_t(weights_of(*problem));
    if (!all_finite(weights, n)) return DEEPLINEAR_BAD_NUMBERS;
    Arena arena;
    deeplinear_run *made = arena.array<deeplinear_run>(1);
    Problem inside;
    double *times = settings->times ? arena.array<double>(size_t(settings->count)) : nullptr;
    if (arena.failed || !prepare(*problem, arena, inside, made->door)) {
        arena.free_all();
        return DEEPLINEAR_NO_MEMORY;
    }
    if (!is_finite(inside.factor) || inside.factor == 0 ||
        !all_finite(inside.optimum.at, room_of_rows(inside.optimum.rows) * inside.optimum.stride)) {
        arena.free_all();
        return DEEPLINEAR_BAD_NUMBERS;
    }
    if (times) memcpy(times, settings->times, size_t(settings->count) * sizeof(double));
    const Method method = Method(settings->method);
    // a relative error of every one of h layers makes one h times as large in their product
    const double share = character_of(method).calibration / problem->depth;
    const Settings own = {method, {share * settings->rtol, share * settings->atol}, times, settings->count,
                          settings->max_time, settings->goal, settings->spread, settings->outputs, settings->log};
    made->integration = Integration::of(inside, own, arena);
    if (arena.failed) {
        arena.free_all();
        return DEEPLINEAR_NO_MEMORY;
    }
    made->door.take(made->integration.now.network, weights);
    // the fractional parts of multiples of the golden ratio
    made->door.for_each(made->integration.work.noise, [&](double &entry, size_t, int l, size_t i) {
        const double size = double(problem->widths[l]) * problem->widths[l + 1], x = double(i + 1) * GOLDEN;
        entry = (x - floor(x) - 0.5) / sqrt(size / 12);
    });
    made->weights = n;
    made->times = times;
    made->question = hash_of(*problem, *settings);
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
    double slope = NAN;
    if (now.begun) {
        slope = 0;
        const Door &door = run->door;
        door.for_each(now.slope, [&](double &entry, size_t, int l, size_t) {
            slope += entry * door.units[l] * (entry * door.units[l]);
        });
        slope = sqrt(slope);
    }
    *summary = {now.status, now.steps,        now.rejected,          now.evaluations, now.t,
                slope,      from.recorded_outputs, from.logged};
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
    const auto count = [&](int64_t &n) { number([&] { return double(n); }, [&](double x) { n = int64_t(x); }); };
    const auto flag = [&](bool &b) { number([&] { return double(b); }, [&](double x) { b = x != 0; }); };
    const auto real = [&](double &r) { number([&] { return r; }, [&](double x) { r = x; }); };
    real(p.t), real(p.h), real(p.last_h), real(p.last_error), real(p.recorded_t), real(p.speed), real(p.time_unit);
    real(p.noise), real(p.spectrum.radius), real(p.choice.spent), real(p.choice.saved);
    count(p.spectrum.age), count(p.choice.streak), count(p.choice.patience);
    count(p.steps), count(p.rejected), count(p.evaluations), count(p.reached);
    flag(p.grows), flag(p.choice.implicit), flag(p.begun);
    number([&] { return double(p.status); }, [&](double x) { p.status = int(x); });
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
    const double *const networks[] = {p.network, p.slope, p.spectrum.vector};
    for (const double *network : networks) {
        run->door.give_bits(network, state);
        state += run->weights;
    }
    for (int i = 0; i < p.recorded.rows; i++)
        for (int j = 0; j < p.recorded.columns; j++) *state++ = p.recorded.row(i)[j];
}

int32_t deeplinear_state_import(deeplinear_run *run, const double *state) {
    Progress &p = run->integration.now;
    const double expected[] = {DEEPLINEAR_ABI, double(deeplinear_state_size(run)), double(run->question >> 32),
                               double(run->question & UINT32_MAX)};
    for (double number : expected)
        if (*state++ != number) return DEEPLINEAR_BAD_STATE;
    state_numbers(p, [&](auto, auto set) { set(*state++); });
    double *const networks[] = {p.network, p.slope, p.spectrum.vector};
    for (double *network : networks) {
        run->door.take_bits(network, state);
        state += run->weights;
    }
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

// f(problem, door, arena) with what a single evaluation needs.
template <class F> int32_t once(const deeplinear_problem &given, F f) {
    if (const int32_t refused = check(given)) return refused;
    Arena arena;
    Problem problem;
    Door door;
    const bool fine = prepare(given, arena, problem, door) && f(problem, door, arena);
    arena.free_all();
    return fine ? DEEPLINEAR_FINE : DEEPLINEAR_NO_MEMORY;
}

}  // namespace

int32_t deeplinear_velocity(const deeplinear_problem *given, const double *weights, double *slopes) {
    return once(*given, [&](const Problem &problem, const Door &door, Arena &arena) {
        Chain chain = Chain::of(problem, arena);
        double *network = problem.layout.network(arena), *out = problem.layout.network(arena);
        if (arena.failed) return false;
        door.take(network, weights);
        velocity(problem, chain, network, out);
        door.give(out, slopes);
        return true;
    });
}

int32_t deeplinear_derivative(
    const deeplinear_problem *given, const double *weights, const double *direction, double *result) {
    return once(*given, [&](const Problem &problem, const Door &door, Arena &arena) {
        Chain at = Chain::of(problem, arena), moved = Chain::of(problem, arena);
        double *network = problem.layout.network(arena), *along = problem.layout.network(arena),
               *out = problem.layout.network(arena);
        if (arena.failed) return false;
        door.take(network, weights);
        door.take(along, direction);
        velocity(problem, at, network, out);
        derivative(problem, at, moved, network, along, out);
        door.give(out, result);
        return true;
    });
}

int32_t deeplinear_svd(int32_t rows, int32_t columns, const double *A, double *U, double *s, double *V) {
    if (rows < 1 || columns < 1 || rows > INT32_MAX - 64 || columns > INT32_MAX - 64) return DEEPLINEAR_BAD_SIZES;
    if (!all_finite(A, size_t(rows) * columns)) return DEEPLINEAR_BAD_NUMBERS;
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
    orthogonalise(M, J, squares);
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
