// Random problems through every door of the engine, for AddressSanitizer and UBSan: `make sanitize`.
//
// Shapes, inputs, masks, decays, rates, times, methods, extreme numbers; segments given up by another thread in the
// middle of steps; states exported, imported and damaged; everything that is to be refused; memory that ends at any
// allocation. Nothing is compared but what must hold for all: refusals, statuses, increasing times, finite networks,
// equal states. Every round has random numbers of its own: `build/sanitize 1 1234` repeats round 1234 alone.
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../engine/engine.h"

static uint64_t state;  // xorshift64 of Marsaglia (2003)

static void seed(int round) { state = 88172645463325252u ^ (uint64_t(round) * 0x9e3779b97f4a7c15u); }
static uint64_t random_bits() {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}
static int random_below(int n) { return int(random_bits() % uint64_t(n)); }
static double uniform() { return double(random_bits() >> 11) / 9007199254740992.0; }
static double normal() { return sqrt(-2 * log(uniform() + 1e-300)) * cos(6.283185307179586 * uniform()); }

static double *numbers(size_t count, double scale) {
    double *out = static_cast<double *>(malloc(count * sizeof(double)));  // exactly as long as it is said to be
    for (size_t i = 0; i < count; i++) out[i] = scale * normal();
    return out;
}

// The engine's only allocator, by the linker's --wrap: it finds no memory after so many allocations; -1 for always.
static int allocations_left = -1;
static bool starved;  // whether it has found none
extern "C" void *__real_calloc(size_t count, size_t size);
extern "C" void *__wrap_calloc(size_t count, size_t size) {
    starved |= allocations_left == 0;
    if (allocations_left == 0) return nullptr;
    allocations_left -= allocations_left > 0;
    return __real_calloc(count, size);
}

static volatile int32_t stop;

static void *stop_after(void *microseconds) {
    const timespec pause = {0, 1000L * *static_cast<int *>(microseconds)};
    nanosleep(&pause, nullptr);
    stop = 1;
    return nullptr;
}

static void fail(int round, const char *what) {
    fprintf(stderr, "round %d: %s\n", round, what);
    exit(1);
}

// A segment, given up by another thread after so many microseconds (0: not). It asks for no memory.
static void advance(int round, deeplinear_run *run, int64_t steps, int microseconds) {
    pthread_t other;
    stop = 0;
    const bool stops = microseconds > 0 && pthread_create(&other, nullptr, stop_after, &microseconds) == 0;
    allocations_left = 0, starved = false;
    deeplinear_advance(run, steps, 0.05, stops || random_below(2) ? &stop : nullptr);
    allocations_left = -1;
    if (stops) pthread_join(other, nullptr);
    if (starved) fail(round, "a segment asked for memory");
}

struct Question {
    deeplinear_problem problem;
    deeplinear_settings settings;
    double *weights;
    size_t n;
};

static Question ask() {
    Question q = {};
    const int depth = 1 + random_below(5), widest = random_below(20) ? 14 : 70;
    int32_t *widths = static_cast<int32_t *>(malloc((depth + 1) * sizeof(int32_t)));
    for (int l = 0; l <= depth; l++) widths[l] = 1 + random_below(widest);
    for (int l = 0; l < depth; l++) q.n += size_t(widths[l]) * widths[l + 1];
    const int d_x = widths[0], d_y = widths[depth];
    q.problem.depth = depth, q.problem.widths = widths;
    const double extreme = random_below(15) ? 1 : pow(10, 600 * uniform() - 300);
    q.problem.optimum = numbers(size_t(d_x) * d_y, extreme);
    if (random_below(2)) {
        q.problem.rank = 1 + random_below(2 * d_x);
        double *root = numbers(size_t(d_x) * q.problem.rank, 1 / sqrt(double(d_x)));
        if (random_below(3) == 0)  // directions of small variance
            for (int i = 0; i < d_x; i++) root[size_t(i) * q.problem.rank] *= 1e-9;
        q.problem.root = root, q.problem.graded = random_below(2);
    }
    q.problem.factor = random_below(10) ? 1 + uniform() : pow(10, 20 * uniform() - 10);
    if (random_below(3) == 0) {
        double *rates = numbers(depth, 1);
        const double spread = random_below(15) ? 1 : 200;
        for (int l = 0; l < depth; l++) rates[l] = exp(spread * rates[l]);
        q.problem.rates = rates;
    }
    if (random_below(3) == 0) {
        double *decay = numbers(depth, random_below(15) ? 0.1 : pow(10, 600 * uniform() - 300));
        for (int l = 0; l < depth; l++) decay[l] = random_below(4) ? fabs(decay[l]) : 0;
        q.problem.decay = decay;
    }
    if (random_below(3) == 0) {
        uint8_t *mask = static_cast<uint8_t *>(malloc(q.n));
        const int held = random_below(6);  // fifths of the weights
        for (size_t i = 0; i < q.n; i++) mask[i] = random_below(5) >= held;
        q.problem.mask = mask;
    }
    const double size = random_below(12) ? pow(10, -3 * uniform()) : random_below(2) ? 0 : pow(10, 300 * uniform());
    q.weights = numbers(q.n, size);
    deeplinear_settings &s = q.settings;
    s.method = random_below(4);
    s.rtol = pow(10, -9 * uniform() - 2), s.atol = 1e-12;
    s.max_time = random_below(3) ? pow(10, 4 * uniform() - 1) : random_below(2) ? INFINITY : pow(10, -300 * uniform());
    s.goal = random_below(2) ? 1e-6 : random_below(8) ? -INFINITY : INFINITY;
    s.spread = random_below(10) ? 1 + 15 * uniform() : pow(10, 300 * uniform());
    s.outputs = 1 + random_below(20), s.log = random_below(2) * (1 + random_below(30));
    if (random_below(2)) {
        s.count = 1 + random_below(30);
        double *times = static_cast<double *>(malloc(size_t(s.count) * sizeof(double))), t = 0;
        const double apart = random_below(8) ? 1 : pow(10, 400 * uniform() - 200);
        for (int64_t i = 0; i < s.count; i++) times[i] = t, t = t * (1 + 1e-9) + apart * (uniform() + 1e-9);
        s.times = times;
    }
    return q;
}

static void forget(Question &q) {
    const void *all[] = {q.problem.widths, q.problem.optimum, q.problem.root, q.problem.rates,
                         q.problem.decay,  q.problem.mask,    q.settings.times, q.weights};
    for (const void *array : all) free(const_cast<void *>(array));
}

// A copy of the run in a state of its own.
static deeplinear_run *moved(int round, const Question &q, deeplinear_run *run) {
    const size_t size = size_t(deeplinear_state_size(run));
    double *first = numbers(size, 0), *second = numbers(size, 0);
    deeplinear_state_export(run, first);
    deeplinear_run *other;
    if (deeplinear_begin(&q.problem, &q.settings, q.weights, &other)) fail(round, "the same question was refused");
    if (deeplinear_state_import(other, first)) fail(round, "its state was refused");
    deeplinear_state_export(other, second);
    if (memcmp(first, second, size * sizeof(double))) fail(round, "a state changed on its way");
    const double wrong[] = {NAN, INFINITY, -1e300, 1e300, 0, -1, 1, 1e-300, 9007199254740991.0, 0.5 + double(size)};
    for (int times = 1 + random_below(3); times > 0; times--) {  // single numbers, and now and then any others
        const size_t damaged = 4 + size_t(random_below(random_below(4) ? 22 : int(size) - 4));
        second[damaged] = wrong[random_below(10)];
    }
    if (deeplinear_state_import(other, second) == DEEPLINEAR_FINE) {
        advance(round, other, 3, 0);
        deeplinear_summary at;
        deeplinear_summarise(other, &at);
        if (at.outputs > q.settings.outputs || at.logged > q.settings.log) fail(round, "more than there is room for");
        deeplinear_state_export(other, second);
    }
    if (deeplinear_state_import(other, first)) fail(round, "its state was refused after another");
    first[2] += 1;
    if (deeplinear_state_import(other, first) != DEEPLINEAR_BAD_STATE) fail(round, "a foreign state was taken");
    free(first), free(second);
    deeplinear_free(run);
    return other;
}

static int64_t follow(int round, const Question &q, deeplinear_run *run) {
    int64_t tried = 0;
    for (int segment = 0; segment < 12; segment++) {
        advance(round, run, 1 + random_below(40), random_below(3) ? 0 : 1 + random_below(400));
        deeplinear_summary at;
        deeplinear_summarise(run, &at);
        if (at.outputs > q.settings.outputs || at.logged > q.settings.log) fail(round, "more than there is room for");
        double *times = numbers(size_t(at.outputs), 0), *weights = numbers(size_t(at.outputs) * q.n, 0);
        double *log = numbers(size_t(at.logged) * DEEPLINEAR_LOG_WIDTH, 0), *last = numbers(q.n, 0);
        deeplinear_outputs(run, times, weights), deeplinear_log(run, log), deeplinear_weights(run, last);
        for (int64_t i = 1; i < at.outputs; i++)
            if (!(times[i] > times[i - 1])) fail(round, "times do not increase");
        for (size_t i = 0; i < q.n; i++)
            if (!isfinite(last[i])) fail(round, "a network is not finite");
        for (size_t i = 0; i < size_t(at.outputs) * q.n; i++)
            if (!isfinite(weights[i])) fail(round, "an output is not finite");
        free(times), free(weights), free(log), free(last);
        tried = at.steps + at.rejected;
        if (random_below(6) == 0) run = moved(round, q, run);
        if (at.status != DEEPLINEAR_RUNNING) break;
    }
    deeplinear_free(run);
    return tried;
}

static void evaluate(int round, const Question &q) {
    double *direction = numbers(q.n, 1), *out = numbers(q.n, 0);
    if (deeplinear_velocity(&q.problem, q.weights, out) || deeplinear_derivative(&q.problem, q.weights, direction, out))
        fail(round, "an evaluation was refused");
    const int rows = 1 + random_below(20), columns = 1 + random_below(20), few = rows < columns ? rows : columns;
    double *A = numbers(size_t(rows) * columns, random_below(5) ? 1 : 0), *U = numbers(size_t(rows) * few, 0),
           *s = numbers(few, 0), *V = numbers(size_t(columns) * few, 0);
    if (deeplinear_svd(rows, columns, A, U, s, V)) fail(round, "singular values were refused");
    free(direction), free(out), free(A), free(U), free(s), free(V);
}

// What is wrong with a question: one of its numbers, changed. `wrong` has room for n numbers and for W*.
static int32_t spoil(deeplinear_problem &problem, deeplinear_settings &settings, double *weights, double *wrong) {
    static const double times[] = {1, NAN}, backwards[] = {2, 1}, early[] = {-1, 1};
    static const int32_t huge[] = {INT32_MAX, 1}, none[] = {0, 1}, many[] = {2000000000, 2000000000, 2000000000};
    const double not_finite = random_below(2) ? NAN : INFINITY;
    wrong[0] = random_below(2) ? -1 : not_finite;
    switch (random_below(21)) {
        case 0: settings.times = times, settings.count = 2; return DEEPLINEAR_BAD_TIMES;
        case 1: settings.times = backwards, settings.count = 2; return DEEPLINEAR_BAD_TIMES;
        case 2: settings.times = early, settings.count = 2; return DEEPLINEAR_BAD_TIMES;
        case 3: settings.times = nullptr, settings.max_time = random_below(2) ? -1 : NAN; return DEEPLINEAR_BAD_TIMES;
        case 4: settings.times = times, settings.count = 0; return DEEPLINEAR_BAD_SIZES;
        case 5: settings.outputs = random_below(2) ? 0 : INT64_MAX; return DEEPLINEAR_BAD_SIZES;
        case 6: settings.log = random_below(2) ? -1 : INT64_MAX; return DEEPLINEAR_BAD_SIZES;
        case 7: settings.method = random_below(2) ? 7 : -1; return DEEPLINEAR_BAD_SIZES;
        case 8: settings.rtol = random_below(2) ? not_finite : 0; return DEEPLINEAR_BAD_NUMBERS;
        case 9: settings.atol = random_below(2) ? not_finite : -1; return DEEPLINEAR_BAD_NUMBERS;
        case 10: settings.spread = random_below(2) ? not_finite : 0.5; return DEEPLINEAR_BAD_NUMBERS;
        case 11: settings.goal = NAN; return DEEPLINEAR_BAD_NUMBERS;
        case 12: problem.widths = random_below(2) ? huge : none, problem.depth = 1; return DEEPLINEAR_BAD_SIZES;
        case 13: problem.widths = many, problem.depth = 2; return DEEPLINEAR_BAD_SIZES;
        case 14: problem.depth = random_below(2) ? 0 : INT32_MIN; return DEEPLINEAR_BAD_SIZES;
        case 15: problem.root = wrong, problem.rank = random_below(2) ? 0 : INT32_MAX; return DEEPLINEAR_BAD_SIZES;
        case 16: problem.factor = random_below(2) ? not_finite : 0; return DEEPLINEAR_BAD_NUMBERS;
        case 17: problem.optimum = wrong, wrong[0] = not_finite; return DEEPLINEAR_BAD_NUMBERS;
        case 18: problem.rates = wrong; return DEEPLINEAR_BAD_NUMBERS;
        case 19: problem.decay = wrong; return DEEPLINEAR_BAD_NUMBERS;
        default: weights[0] = not_finite; return DEEPLINEAR_BAD_NUMBERS;
    }
}

// Wide problems, whose products are packed (engine/packing.h): a field, a step and single products.
static void widen(int round) {
    const int32_t square = 513 + random_below(30);
    const int32_t widths[][3] = {{square, 514, 515}, {1500, 2000, 70}, {70, 2000, 1500}};
    const int32_t *chosen = widths[round / 100 % 3];
    Question q = {};
    q.problem.depth = 2, q.problem.widths = chosen, q.problem.factor = 1;
    q.n = size_t(chosen[1]) * (size_t(chosen[0]) + chosen[2]);
    double *optimum = numbers(size_t(chosen[0]) * chosen[2], 1), *out = numbers(q.n, 0);
    q.problem.optimum = optimum, q.weights = numbers(q.n, 0.01);
    q.settings = {DEEPLINEAR_ROCK4, 1e-2, 1e-12, nullptr, 0, 1, -INFINITY, 1, 1, 0};
    deeplinear_run *run;
    if (deeplinear_velocity(&q.problem, q.weights, out)) fail(round, "a wide field was refused");
    if (deeplinear_begin(&q.problem, &q.settings, q.weights, &run)) fail(round, "a wide problem was refused");
    advance(round, run, 1, random_below(2) ? 0 : 1 + random_below(100000));
    deeplinear_free(run);
    const int rows = 64 + random_below(100), columns = 1300 + random_below(9), inner = 1600 + random_below(300);
    double *A = numbers(size_t(rows) * inner, 1), *B = numbers(size_t(inner) * columns, 1),
           *C = numbers(size_t(rows) * columns, 0);
    if (deeplinear_product(rows, columns, inner, random_below(2), 1, A, B, C)) fail(round, "a product was refused");
    if (deeplinear_product(rows, 0, inner, 0, 1, A, B, C) != DEEPLINEAR_BAD_SIZES ||
        deeplinear_product(rows, columns, inner, 0, 0, A, B, C) != DEEPLINEAR_BAD_SIZES)
        fail(round, "a product was not refused");
    allocations_left = random_below(4), starved = false;
    if (deeplinear_product(rows, columns, inner, 0, 1, A, B, C) != DEEPLINEAR_NO_MEMORY || !starved)
        fail(round, "a product without memory");
    allocations_left = -1;
    free(optimum), free(out), free(q.weights), free(A), free(B), free(C);
}

// Whatever is wrong is refused, and nothing of it stays.
static void refuse(int round, const Question &q) {
    deeplinear_problem problem = q.problem;
    deeplinear_settings settings = q.settings;
    double *wrong = numbers(q.n + size_t(problem.widths[0]) * problem.widths[problem.depth], 1);
    double *weights = numbers(q.n, 1), *out = numbers(q.n, 0);
    const int32_t expected = spoil(problem, settings, weights, wrong);
    deeplinear_run *run;
    deeplinear_bytes(&problem, &settings);
    if (deeplinear_begin(&problem, &settings, weights, &run) != expected || run) fail(round, "not refused as wanted");
    const bool of_settings = !memcmp(&problem, &q.problem, sizeof problem) && isfinite(weights[0]);
    if (deeplinear_velocity(&problem, weights, out) != (of_settings ? 0 : expected) ||
        deeplinear_derivative(&problem, weights, out, out) != (of_settings ? 0 : expected))
        fail(round, "an evaluation was not refused as a run");
    wrong[0] = NAN;
    if (deeplinear_svd(1, 1, wrong, out, out, out) != DEEPLINEAR_BAD_NUMBERS ||
        deeplinear_svd(0, 1, wrong, out, out, out) != DEEPLINEAR_BAD_SIZES)
        fail(round, "singular values were not refused");
    free(wrong), free(weights), free(out);
}

// Memory ends at some allocation: the call is refused, and gives back what it had.
static void starve(int round, const Question &q) {
    double *out = numbers(q.n, 0), *A = numbers(3 * 4, 1), *U = numbers(3 * 3, 0), *s = numbers(3, 0),
           *V = numbers(4 * 3, 0);
    for (int call = 0; call < 8; call++) {
        deeplinear_run *run = nullptr;
        allocations_left = random_below(call % 4 == 3 ? 5 : 70), starved = false;
        int32_t code;
        switch (call % 4) {
            case 0: code = deeplinear_begin(&q.problem, &q.settings, q.weights, &run); break;
            case 1: code = deeplinear_velocity(&q.problem, q.weights, out); break;
            case 2: code = deeplinear_derivative(&q.problem, q.weights, q.weights, out); break;
            default: code = deeplinear_svd(3, 4, A, U, s, V);
        }
        allocations_left = -1;
        if (code != (starved ? DEEPLINEAR_NO_MEMORY : DEEPLINEAR_FINE)) fail(round, "not refused where memory ended");
        if (call % 4 == 0 && (run != nullptr) == starved) fail(round, "a run without memory");
        deeplinear_free(run);
    }
    free(out), free(A), free(U), free(s), free(V);
}

int main(int count, char **arguments) {
    const int rounds = count > 1 ? atoi(arguments[1]) : 2000, first = count > 2 ? atoi(arguments[2]) : 0;
    int64_t steps = 0, refused = 0;
    for (int round = first; round < first + rounds; round++) {
        seed(round);
        Question q = ask();
        deeplinear_run *run;
        const int32_t code = deeplinear_begin(&q.problem, &q.settings, q.weights, &run);
        refused += code != 0;
        if (code == 0) {
            steps += follow(round, q, run);
            evaluate(round, q);
            refuse(round, q);
            starve(round, q);
        } else if (run || code != DEEPLINEAR_BAD_NUMBERS) {
            fail(round, "refused without reason");
        }
        forget(q);
        if (round % 100 == 99) widen(round);
    }
    printf("%d problems, %lld steps, %lld refused\n", rounds, (long long)steps, (long long)refused);
    return 0;
}
