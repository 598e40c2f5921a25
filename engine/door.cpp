#include "door.h"

#include "linear_algebra.h"
#include "packing.h"

namespace deeplinear {
namespace {

constexpr int64_t MOST_NUMBERS = INT64_MAX / 4096;  // of a network: no count of bytes overflows

bool all_finite(const double *numbers, size_t count) {
    bool finite = true;
    for (size_t i = 0; i < count; i++) finite &= is_finite(numbers[i]);
    return finite;
}

// Sigma formed once, or both factors T and T^T in every evaluation: whichever is cheaper, unless the caller says that
// small variances would be lost among the rounding of large ones.
Inputs inputs_of(const deeplinear_problem &given, bool flipped, double *packing, Arena &arena) {
    Inputs made;
    made.flipped = flipped;
    if (!given.root) return made;
    const int d = given.widths[0], k = given.rank;
    made.form = Inputs::ROOT;
    made.root = arena.matrix(d, k), made.root_transposed = arena.matrix(k, d);
    if (arena.failed) return made;
    fill(made.root, given.root, false, 1);
    transpose(made.root, made.root_transposed);
    if (given.graded || d > 2 * int64_t(k)) return made;
    made.sigma = arena.matrix(d, d);
    if (arena.failed) return made;
    made.form = Inputs::FORMED;
    multiply(made.sigma, Factors(made.root, made.root_transposed), packing);
    return made;
}

// Fowler, Noll and Vo (FNV-1a), eight bytes at a time.
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

}  // namespace

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

int32_t refusal_of(const deeplinear_problem &given) {
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

int32_t refusal_of(const deeplinear_settings &given) {
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

int32_t refusal_of(const double *numbers, size_t count) {
    return all_finite(numbers, count) ? DEEPLINEAR_FINE : DEEPLINEAR_BAD_NUMBERS;
}

void fill(const Matrix &M, const double *given, bool flipped, double factor) {
    for (int i = 0; i < M.rows; i++)
        for (int j = 0; j < M.columns; j++)
            M.row(i)[j] = factor * given[flipped ? size_t(j) * M.rows + i : size_t(i) * M.columns + j];
}

size_t room_to_pack(const deeplinear_problem &given) {
    int widest = given.root ? given.rank : 1;
    for (int l = 0; l <= given.depth; l++) widest = given.widths[l] > widest ? given.widths[l] : widest;
    return room_to_pack(widest);
}

int32_t prepare(const deeplinear_problem &given, Arena &arena, Problem &problem, Door &door) {
    const int h = given.depth, d_y = given.widths[h], d_x = given.widths[0];
    const bool flipped = d_y > d_x;
    int *widths = arena.array<int>(h + 1);
    size_t *offset = arena.array<size_t>(h + 1);
    double *units = arena.array<double>(h), *decay = given.decay ? arena.array<double>(h) : nullptr;
    if (arena.failed) return DEEPLINEAR_NO_MEMORY;
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
    if (arena.failed) return DEEPLINEAR_NO_MEMORY;
    fill(problem.optimum, given.optimum, flipped, 1 / whole);
    const size_t room = room_to_pack(given);
    problem.packing = room ? arena.array<double>(room) : nullptr;
    if (arena.failed) return DEEPLINEAR_NO_MEMORY;
    problem.inputs = inputs_of(given, flipped, problem.packing, arena);
    if (arena.failed) return DEEPLINEAR_NO_MEMORY;
    door = {problem.layout, flipped, units};
    if (given.mask) {
        double *mask = problem.layout.network(arena);
        if (arena.failed) return DEEPLINEAR_NO_MEMORY;
        const uint64_t all = UINT64_MAX;
        door.for_each(mask, [&](double &entry, size_t i, int, size_t) {
            if (given.mask[i]) memcpy(&entry, &all, sizeof all);
        });
        problem.mask = reinterpret_cast<const uint64_t *>(mask);
    }
    const Matrix &optimum = problem.optimum;
    const bool sound = is_finite(problem.factor) && problem.factor > 0 &&
                       all_finite(optimum.at, room_of_rows(optimum.rows) * optimum.stride);
    return sound ? DEEPLINEAR_FINE : DEEPLINEAR_BAD_NUMBERS;
}

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
    const double numbers[] = {problem.factor, double(problem.rank), double(problem.graded), double(settings.method),
                              settings.rtol,  settings.atol,        settings.max_time,      settings.goal,
                              settings.spread};
    hash.add(numbers, sizeof numbers);
    return hash.value;
}

}  // namespace deeplinear
