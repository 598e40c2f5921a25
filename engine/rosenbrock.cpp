// A linearly implicit method of order 4 for stiff stretches: its step is bounded by accuracy alone.
//
// Every stage solves (I - gamma h J) u = right-hand side with J minus the Hessian at the start of the step. The
// matrix is symmetric and, wherever the flow contracts, at least the identity, so that conjugate gradients apply
// without a factorisation, and the residual bounds the error. The stiff part of J is inverted beforehand
// (preconditioner.h), so that a few products suffice where a stabilised explicit method would need thousands of
// stages.
//
// The method is RODAS of Hairer and Wanner (1996), Solving Ordinary Differential Equations II, section IV.7, table of
// code RODAS: six stages, order 4 with an embedded order 3, L-stable, stiffly accurate.
#include "engine.h"
#include "methods.h"

namespace deeplinear {
namespace {

constexpr int STAGES = 6;
constexpr double GAMMA = 0.25;
// Stage arguments y + sum_j ARGUMENTS_ij u_j and right-hand sides gamma (h f + sum_j SIDES_ij u_j)
constexpr double ARGUMENTS[STAGES][STAGES] = {
    {0, 0, 0, 0, 0, 0},
    {1.544, 0, 0, 0, 0, 0},
    {0.9466785280815826, 0.2557011698983284, 0, 0, 0, 0},
    {3.314825187068521, 2.896124015972201, 0.9986419139977817, 0, 0, 0},
    {1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950, 0, 0},
    {1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950, 1, 0},
};
constexpr double SIDES[STAGES][STAGES] = {
    {0, 0, 0, 0, 0, 0},
    {-5.6688, 0, 0, 0, 0, 0},
    {-2.430093356833875, -0.2063599157091915, 0, 0, 0, 0},
    {-0.1073529058151375, -9.594562251023355, -20.47028614809616, 0, 0, 0},
    {7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160, 0, 0},
    {8.083246795921522, -7.981132988064893, -31.52159432874371, 16.31930543123136, -6.058818238834054, 0},
};
constexpr double SOLVED = 0.01;  // residual of a linear solve in units of the tolerance
constexpr int MOST = 3000;       // products of one step; a step whose solves need more is too long

// u = (I - tau J)^-1 side to a residual of `SOLVED` tolerances; returns the products that it took, MOST where the
// matrix shows itself not positive definite: some direction grows faster than 1 / (gamma h). `residual` starts as the
// side.
int conjugate_gradients(
    const Problem &problem, Workspace &work, Start from, double tau, double *residual, double *u) {
    const size_t size = problem.layout.size();
    double *nearer = work.vectors[8], *direction = work.vectors[9], *image = work.vectors[10];
    clear(u, size);
    if (!(relative_norm(residual, work.sizes, problem.layout) > SOLVED)) return 0;
    work.inverse.apply(problem, residual, direction);
    double square = dot(residual, direction, size);  // of the residual, in the preconditioner's norm
    int i = 0;
    while (!problem.stopped()) {
        derivative(problem, work.base, work.moved, from.network, direction, image);
        plus(image, direction, -tau, image, size);
        const double along = dot(direction, image, size);
        if (!(along > 0)) return MOST;
        plus(u, u, square / along, direction, size);
        plus(residual, residual, -square / along, image, size);
        i++;
        if (!(i < MOST / 2 && relative_norm(residual, work.sizes, problem.layout) > SOLVED)) break;
        work.inverse.apply(problem, residual, nearer);
        const double next = dot(residual, nearer, size);
        plus(direction, nearer, next / square, direction, size);
        square = next;
    }
    return i;
}

int row_of(const double *row, double factor, double *const *stages, int count, Times *terms) {
    for (int j = 0; j < count; j++) terms[j] = {factor * row[j], stages[j]};
    return count;
}

}  // namespace

Trial rosenbrock_step(
    const Problem &problem, Workspace &work, Start from, double h, Tolerances tolerances, Start to) {
    const size_t size = problem.layout.size();
    double *const *stages = work.vectors;  // the first six
    double *point = work.vectors[6], *side = work.vectors[7];
    sizes_of(problem.layout, from.network, tolerances, work.sizes);
    velocity(problem, work.base, from.network, side);  // for the products that it leaves in `base`
    work.inverse.prepare(problem, from.network, GAMMA * h);
    int64_t spent = 0;
    Times terms[STAGES + 1];
    for (int i = 0; i < STAGES && !problem.stopped(); i++) {
        combine(point, from.network, terms, row_of(ARGUMENTS[i], 1, stages, i, terms), size);
        velocity(problem, work.chain, point, side);
        const int earlier = row_of(SIDES[i], GAMMA, stages, i, terms);
        scale(side, GAMMA * h, side, size);
        combine(side, side, terms, earlier, size);
        spent += conjugate_gradients(problem, work, from, GAMMA * h, side, stages[i]);
    }
    plus(to.network, point, 1, stages[STAGES - 1], size);  // stiffly accurate
    velocity(problem, work.chain, to.network, to.slope);
    const double error = relative_norm(stages[STAGES - 1], work.sizes, problem.layout);
    const bool sound = is_finite(norm(to.slope, size)) && is_finite(error) && spent < MOST;
    return {sound ? error : INFINITY, spent + STAGES + 1, DEEPLINEAR_STEP_RODAS4};
}

}  // namespace deeplinear
