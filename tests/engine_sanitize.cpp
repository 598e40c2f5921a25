// Random problems through every door of the engine, for AddressSanitizer and UBSan: `make sanitize`.
//
// Shapes, inputs, masks, decays, rates, times, methods, extreme numbers, refusals, aborts in the middle of steps,
// states exported and imported. Nothing is compared but what must hold for all: statuses, finite outputs, equal
// states.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <signal.h>

#include "../engine/engine.h"

static uint64_t state = 88172645463325252u;  // xorshift64 of Marsaglia (2003)

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

static volatile int32_t stop;
static void set_stop(int) { stop = 1; }

static void fail(int round, const char *what) {
    fprintf(stderr, "round %d: %s\n", round, what);
    exit(1);
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
        q.problem.root = root;
    }
    q.problem.factor = random_below(10) ? 1 + uniform() : pow(10, 20 * uniform() - 10);
    if (random_below(3) == 0) {
        double *rates = numbers(depth, 1);
        for (int l = 0; l < depth; l++) rates[l] = exp(rates[l]);
        q.problem.rates = rates;
    }
    if (random_below(3) == 0) {
        double *decay = numbers(depth, 0.1);
        for (int l = 0; l < depth; l++) decay[l] = fabs(decay[l]);
        q.problem.decay = decay;
    }
    if (random_below(3) == 0) {
        uint8_t *mask = static_cast<uint8_t *>(malloc(q.n));
        for (size_t i = 0; i < q.n; i++) mask[i] = random_below(4) > 0;
        q.problem.mask = mask;
    }
    const double size = random_below(12) ? pow(10, -3 * uniform()) : random_below(2) ? 0 : pow(10, 300 * uniform());
    q.weights = numbers(q.n, size);
    deeplinear_settings &s = q.settings;
    s.method = random_below(4);
    s.rtol = pow(10, -9 * uniform() - 2), s.atol = 1e-12;
    s.max_time = random_below(3) ? pow(10, 4 * uniform() - 1) : INFINITY;
    s.goal = random_below(2) ? 1e-6 : -INFINITY;
    s.spread = 1 + 15 * uniform();
    s.outputs = 1 + random_below(20), s.log = random_below(2) * (1 + random_below(30));
    if (random_below(2)) {
        s.count = 1 + random_below(30);
        double *times = static_cast<double *>(malloc(size_t(s.count) * sizeof(double))), t = 0;
        for (int64_t i = 0; i < s.count; i++) times[i] = t, t += uniform() + 1e-9;
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
    const int damaged = 4 + random_below(22);
    second[damaged] = random_below(3) ? random_below(2) ? NAN : -1e300 : 1e300;
    if (deeplinear_state_import(other, second) == DEEPLINEAR_FINE) {
        const volatile int32_t never = 0;
        deeplinear_advance(other, 3, 0.01, &never);
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
        stop = 0;
        const bool aborts = random_below(3) == 0;
        if (aborts) {
            const itimerval soon = {{0, 0}, {0, 1 + random_below(400)}};
            setitimer(ITIMER_REAL, &soon, nullptr);
        }
        deeplinear_advance(run, 1 + random_below(40), 0.05, random_below(4) ? &stop : nullptr);
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

// Whatever is wrong is refused, and nothing of it stays.
static void refuse(int round, Question q) {
    deeplinear_run *run;
    const double times[] = {1, NAN}, backwards[] = {2, 1};
    const int32_t huge[] = {INT32_MAX, 1}, none[] = {0, 1}, many[] = {2000000000, 2000000000, 2000000000};
    deeplinear_problem problem = q.problem;
    deeplinear_settings settings = q.settings;
    int32_t expected = DEEPLINEAR_BAD_NUMBERS;
    switch (random_below(9)) {
        case 0: settings.times = times, settings.count = 2, expected = DEEPLINEAR_BAD_TIMES; break;
        case 1: settings.times = backwards, settings.count = 2, expected = DEEPLINEAR_BAD_TIMES; break;
        case 2: problem.widths = huge, problem.depth = 1, expected = DEEPLINEAR_BAD_SIZES; break;
        case 3: problem.widths = none, problem.depth = 1, expected = DEEPLINEAR_BAD_SIZES; break;
        case 4: problem.widths = many, problem.depth = 2, expected = DEEPLINEAR_BAD_SIZES; break;
        case 5: problem.depth = 0, expected = DEEPLINEAR_BAD_SIZES; break;
        case 6: problem.factor = 0; break;
        case 7: settings.rtol = NAN; break;
        default: settings.method = 7, expected = DEEPLINEAR_BAD_SIZES;
    }
    const bool sizes = expected == DEEPLINEAR_BAD_SIZES;
    if (!sizes && !isfinite(deeplinear_bytes(&problem, &settings))) fail(round, "sizes that were counted before");
    if (deeplinear_begin(&problem, &settings, q.weights, &run) != expected || run) fail(round, "not refused as wanted");
}

int main(int count, char **arguments) {
    const int rounds = count > 1 ? atoi(arguments[1]) : 2000;
    int64_t steps = 0, refused = 0;
    signal(SIGALRM, set_stop);
    for (int round = 0; round < rounds; round++) {
        Question q = ask();
        deeplinear_run *run;
        const int32_t code = deeplinear_begin(&q.problem, &q.settings, q.weights, &run);
        refused += code != 0;
        if (code == 0) {
            steps += follow(round, q, run);
            evaluate(round, q);
            refuse(round, q);
        } else if (run || code != DEEPLINEAR_BAD_NUMBERS) {
            fail(round, "refused without reason");
        }
        forget(q);
    }
    printf("%d problems, %lld steps, %lld refused\n", rounds, (long long)steps, (long long)refused);
    return 0;
}
