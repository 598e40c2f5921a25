/* The flow of a squared error through a deep linear network: arrays in, arrays out.

       dW_l/dt = -eta_l (dL/dW_l + gamma_l W_l),   L(W) = c/2 |(W - W*) T|_F^2,   W = W_h ... W_1,   l = 1, ..., h

   Layers are handed over one after another, W_1 first, each row by row, without gaps: n = sum_l d_l d_{l-1} numbers.
   A run is begun, carried on in segments, read after each of them, and freed. Where segments end changes nothing: every
   step and every output follows from the state alone, to the last bit on one instruction set. */
#ifndef DEEPLINEAR_ENGINE_H
#define DEEPLINEAR_ENGINE_H
#include <stdint.h>

#define DEEPLINEAR_ABI 3 /* raised when anything in this file changes */

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct {
    int32_t depth;          /* h >= 1 */
    const int32_t *widths;  /* d_0, ..., d_h, each at least 1 */
    const double *optimum;  /* W* (d_h, d_0) */
    const double *root;     /* T (d_0, rank) with T T^T = Sigma_xx; null: white inputs, T = I. Best with orthogonal
                               columns: then slow directions keep all their digits */
    int32_t rank;
    int32_t graded;         /* 1: the variances differ so much that only T keeps the small ones, 0: Sigma is as good */
    double factor;          /* c > 0 */
    const double *rates;    /* eta_l > 0 of every layer; null: 1 */
    const double *decay;    /* gamma_l >= 0 of every layer; null: 0 */
    const uint8_t *mask;    /* n bytes, 0 holds a weight; null: all learn */
} deeplinear_problem;

enum { DEEPLINEAR_ROCK4, DEEPLINEAR_RODAS4, DEEPLINEAR_DOPRI8, DEEPLINEAR_AUTO };

typedef struct {
    int32_t method;
    double rtol, atol;   /* errors along the path that are aimed at, of every layer: relative, and absolute */
    const double *times; /* increasing, >= 0; null: outputs are chosen, evenly along the path */
    int64_t count;       /* of times */
    double max_time;     /* where outputs are chosen: when to stop; infinite for never */
    double goal;         /* ... and the L at which to stop; minus infinity for none */
    double spread;       /* ... and how many times farther apart they are than 1/100 in time, 1/250 in W; >= 1 */
    int64_t outputs;     /* that a segment may hold, at least 1 */
    int64_t log;         /* steps whose record a segment may hold; 0: no log is kept */
} deeplinear_settings;

/* Where a run stands. */
enum {
    DEEPLINEAR_RUNNING,    /* the segment is over: its steps, its seconds, its outputs or its log are full, or `stop` */
    DEEPLINEAR_REACHED,    /* the last time */
    DEEPLINEAR_GOAL,       /* the loss asked for */
    DEEPLINEAR_STATIONARY, /* the gradient is zero to rounding */
    DEEPLINEAR_STALLED     /* the step size fell below rounding */
};

/* Why a call was refused; 0 where it was not. */
enum {
    DEEPLINEAR_FINE,
    DEEPLINEAR_NO_MEMORY,
    DEEPLINEAR_BAD_SIZES,    /* depth, widths, rank, counts or the method */
    DEEPLINEAR_BAD_NUMBERS,  /* numbers of the problem or the settings that are not finite or out of range */
    DEEPLINEAR_BAD_TIMES,    /* not increasing, negative, or not finite */
    DEEPLINEAR_BAD_STATE     /* a state of another problem or another version */
};

typedef struct {
    int32_t status;
    int64_t steps, rejected, evaluations;
    double t, slope; /* time, and the norm of all dW_l/dt; NaN before the first segment */
    int64_t outputs; /* of the last segment */
    int64_t logged;
} deeplinear_summary;

/* A row of the log: t and h of the step tried, its error in units of the tolerance, the evaluations and products that
   it took, the estimated spectral radius, the formula, and 1 where it was accepted. */
enum { DEEPLINEAR_LOG_WIDTH = 7 };
enum { DEEPLINEAR_STEP_ROCK4, DEEPLINEAR_STEP_CND4, DEEPLINEAR_STEP_RODAS4, DEEPLINEAR_STEP_DOPRI8 };

typedef struct deeplinear_run deeplinear_run;

int32_t deeplinear_abi(void);
const char *deeplinear_sources(void); /* a hash of what this library was made of */
int32_t deeplinear_processor(void);   /* what this processor can run: 4 (AVX-512), 3 (AVX2 and FMA), or 1 */

/* Bytes that a run takes, about; infinite where they cannot be counted. */
double deeplinear_bytes(const deeplinear_problem *problem, const deeplinear_settings *settings);

/* Copies everything that it is given; takes no step. */
int32_t deeplinear_begin(const deeplinear_problem *problem, const deeplinear_settings *settings, const double *weights,
                         deeplinear_run **run);

/* A segment of at most so many steps, rejected ones too, and about so many seconds. Another thread may set *stop to
   something other than 0: then the step under way is given up, as if it had never begun. */
void deeplinear_advance(deeplinear_run *run, int64_t steps, double seconds, const volatile int32_t *stop);

void deeplinear_summarise(const deeplinear_run *run, deeplinear_summary *summary);
void deeplinear_outputs(const deeplinear_run *run, double *times, double *weights); /* (outputs), (outputs, n) */
void deeplinear_log(const deeplinear_run *run, double *rows);                       /* (logged, LOG_WIDTH) */
void deeplinear_weights(const deeplinear_run *run, double *weights);                /* (n), where the run stands */

/* Everything from which the run goes on, outputs of the last segment left out. `import` wants a run of the same problem
   and settings and refuses others where it can tell. */
int64_t deeplinear_state_size(const deeplinear_run *run);
void deeplinear_state_export(const deeplinear_run *run, double *state);
int32_t deeplinear_state_import(deeplinear_run *run, const double *state);

void deeplinear_free(deeplinear_run *run);

/* The field and its derivative in a direction, at one network; all arrays have n numbers. */
int32_t deeplinear_velocity(const deeplinear_problem *problem, const double *weights, double *slopes);
int32_t deeplinear_derivative(
    const deeplinear_problem *problem, const double *weights, const double *direction, double *out);

/* A (rows, columns) = U diag(s) V^T with r = min(rows, columns): U (rows, r), s (r) decreasing, V (columns, r). */
int32_t deeplinear_svd(int32_t rows, int32_t columns, const double *A, double *U, double *s, double *V);

/* C (rows, columns) = A B, with A (rows, inner) and B (inner, columns), or A^T B with A (inner, rows) where
   `transposed` is not 0: one of the products that evaluations consist of, computed so many times over, for whoever
   measures them. */
int32_t deeplinear_product(int32_t rows, int32_t columns, int32_t inner, int32_t transposed, int64_t times,
                           const double *A, const double *B, double *C);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
