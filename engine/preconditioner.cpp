#include "preconditioner.h"

#include "linear_algebra.h"

namespace deeplinear {
namespace {

constexpr double NEAR = 1e-6;  // cosines of eigenvectors that are good enough here

size_t room(const Matrix &M) { return room_of_rows(M.rows) * M.stride; }
void add(const Matrix &to, double factor, const Matrix &M) { plus(to.at, to.at, factor, M.at, room(to)); }

void identity(const Matrix &M) {
    clear(M.at, room(M));
    for (int i = 0; i < M.rows; i++) M.row(i)[i] = 1;
}

double trace(const Matrix &M) {
    double sum = 0;
    for (int i = 0; i < M.rows; i++) sum += M.row(i)[i];
    return sum;
}

// Eigenvectors of the sum of `own`, each weighted by the trace of its partner, as rows of `vectors`.
void mean_eigenvectors(const Matrix *own, const Matrix *other, int count, const Matrix &mean, const Matrix &vectors,
                       double *squares) {
    clear(mean.at, room(mean));
    for (int l = 0; l < count; l++) add(mean, trace(other[l]), own[l]);
    orthogonalise(mean, vectors, squares, NEAR);
}

// seen[l][a] = u_a^T own_l u_a for the rows u_a of `vectors`.
void seen_by(const Matrix &vectors, const Matrix *own, int count, const Matrix &scratch, double *packing,
             double *seen) {
    for (int l = 0; l < count; l++) {
        multiply(scratch, Factors(vectors, own[l]), packing);
        for (int a = 0; a < vectors.rows; a++) {
            double sum = 0;
            for (int i = 0; i < vectors.columns; i++) sum += scratch.row(a)[i] * vectors.row(a)[i];
            seen[size_t(l) * vectors.rows + a] = sum;
        }
    }
}

}  // namespace

Preconditioner Preconditioner::of(const Problem &problem, Arena &arena) {
    const Layout &layout = problem.layout;
    const Inputs &inputs = problem.inputs;
    const int h = layout.depth;
    const bool white = inputs.form == Inputs::WHITE;
    Preconditioner made;
    if (problem.rows() > WIDEST || problem.columns() > WIDEST) return made;
    made.flipped = inputs.flipped;
    made.packing = problem.packing;
    made.unit_above = white || !inputs.flipped;
    made.unit_below = white || inputs.flipped;
    made.p = made.unit_above ? problem.rows() : inputs.root.columns;
    made.q = made.unit_below ? problem.columns() : inputs.root.columns;
    const int p = made.p, q = made.q, own = inputs.flipped ? p : q, other = inputs.flipped ? q : p;
    made.form = white || size_t(own) * own * other > MOST_IN_BLOCKS ? DIAGONAL : BLOCKS;
    made.weight = arena.array<double>(h);
    Matrix **lists[] = {&made.above_flipped, &made.below,  &made.below_flipped, &made.left,
                        &made.right,         &made.passed, &made.answered,      &made.carried};
    for (Matrix **list : lists) *list = arena.array<Matrix>(h);
    made.terms = arena.array<Factors>(h);
    made.blocks = arena.array<Matrix>(other);
    if (arena.failed) return made;
    for (int l = 0; l < h; l++) {
        const int below = layout.widths[l], above = layout.widths[l + 1];
        made.above_flipped[l] = arena.matrix(above, p);
        made.below[l] = arena.matrix(below, q);
        made.below_flipped[l] = arena.matrix(q, below);
        made.left[l] = arena.matrix(p, p);
        made.right[l] = arena.matrix(q, q);
        made.passed[l] = arena.matrix(p, below);
        made.answered[l] = arena.matrix(p, below);
        made.carried[l] = arena.matrix(p, q);
    }
    made.U = arena.matrix(p, p), made.mean_left = arena.matrix(p, p), made.turned_left = arena.matrix(p, p);
    made.V = arena.matrix(q, q), made.mean_right = arena.matrix(q, q), made.turned_right = arena.matrix(q, q);
    made.V_flipped = arena.matrix(q, q);
    made.squares = arena.array<double>(p > q ? p : q);
    made.seen_left = arena.array<double>(size_t(h) * p), made.seen_right = arena.array<double>(size_t(h) * q);
    made.stiffness = arena.matrix(p, q);
    made.turned = arena.matrix(other, own), made.solved = arena.matrix(other, own);
    if (made.form == BLOCKS)
        for (int a = 0; a < other; a++) made.blocks[a] = arena.matrix(own, own);
    Matrix *scratch[] = {&made.Z, &made.answer, &made.first, &made.rest, &made.between};
    for (Matrix *M : scratch) *M = arena.matrix(p, q);
    made.Z_flipped = arena.matrix(q, p);
    return made;
}

void Preconditioner::prepare(const Problem &problem, double *network, double step) {
    if (form == NONE) return;
    tau = step;
    sides(problem, network);
    if (form == DIAGONAL)
        diagonalise(problem);
    else
        block(problem);
}

// S_l^T, P_l and the two sides of B E^-1 B^T.
void Preconditioner::sides(const Problem &problem, double *network) {
    const Layout &layout = problem.layout;
    const int h = layout.depth;
    const double c = sqrt(problem.factor);
    if (unit_above)
        identity(above_flipped[h - 1]);
    else
        copy(above_flipped[h - 1].at, problem.inputs.root.at, room(above_flipped[h - 1]));
    scale(above_flipped[h - 1].at, c, above_flipped[h - 1].at, room(above_flipped[h - 1]));
    for (int l = h - 1; l > 0; l--)
        multiply(above_flipped[l - 1], Factors(layout.layer(network, l), above_flipped[l], true), packing);
    if (unit_below)
        identity(below[0]);
    else
        copy(below[0].at, problem.inputs.root.at, room(below[0]));
    for (int l = 0; l < h - 1; l++) {
        const Matrix W = layout.layer(network, l);
        if (l == 0 && unit_below)
            copy(below[1].at, W.at, size_t(W.rows) * W.stride);
        else
            multiply(below[l + 1], Factors(W, below[l]), packing);
    }
    for (int l = 0; l < h; l++) {
        weight[l] = 1 / (1 + (problem.decay ? tau * problem.decay[l] : 0.0));
        transpose(below[l], below_flipped[l]);
        multiply(left[l], Factors(above_flipped[l], above_flipped[l], true), packing);
        if (l == 0 && unit_below)
            identity(right[l]);
        else
            multiply(right[l], Factors(below[l], below[l], true), packing);
        scale(right[l].at, weight[l], right[l].at, room(right[l]));
    }
}

void Preconditioner::diagonalise(const Problem &problem) {
    const int h = problem.layout.depth;
    mean_eigenvectors(left, right, h, mean_left, U, squares);
    mean_eigenvectors(right, left, h, mean_right, V, squares);
    transpose(V, V_flipped);
    seen_by(U, left, h, turned_left, packing, seen_left);
    seen_by(V, right, h, turned_right, packing, seen_right);
    for (int a = 0; a < p; a++)
        for (int b = 0; b < q; b++) {
            double sum = 0;
            for (int l = 0; l < h; l++) sum += seen_left[size_t(l) * p + a] * seen_right[size_t(l) * q + b];
            stiffness.row(a)[b] = 1 + tau * sum;
        }
}

// One block for every eigenvector of the side that knows nothing of T.
void Preconditioner::block(const Problem &problem) {
    const int h = problem.layout.depth, count = flipped ? q : p;
    const Matrix *own = flipped ? left : right;
    if (flipped) {
        mean_eigenvectors(right, left, h, mean_right, V, squares);
        seen_by(V, right, h, turned_right, packing, seen_right);
    } else {
        mean_eigenvectors(left, right, h, mean_left, U, squares);
        seen_by(U, left, h, turned_left, packing, seen_left);
    }
    const double *seen = flipped ? seen_right : seen_left;
    for (int a = 0; a < count; a++) {
        identity(blocks[a]);
        for (int l = 0; l < h; l++) add(blocks[a], tau * seen[size_t(l) * count + a], own[l]);
        invert(blocks[a]);
    }
}

// to = about (I + tau B E^-1 B^T)^-1 from. 
void Preconditioner::nearly(const Matrix &from, const Matrix &to) {
    if (form == DIAGONAL) {
        multiply(to, Factors(U, from), packing);
        multiply(between, Factors(to, V_flipped), packing);
        for (int a = 0; a < p; a++)
            for (int b = 0; b < q; b++) between.row(a)[b] /= stiffness.row(a)[b];
        multiply(to, Factors(U, between, true), packing);
        multiply(between, Factors(to, V), packing);
        copy(to.at, between.at, room(to));
        return;
    }
    // in rows of eigenvectors each row has a block of its own
    const Matrix &basis = flipped ? V : U;
    if (flipped) transpose(from, Z_flipped);
    multiply(turned, Factors(basis, flipped ? Z_flipped : from), packing);
    for (int a = 0; a < turned.rows; a++) {
        const Matrix row = {turned.row(a), 1, turned.columns, turned.stride};
        multiply({solved.row(a), 1, solved.columns, solved.stride}, Factors(row, blocks[a]), packing);
    }
    multiply(turned, Factors(basis, solved, true), packing);
    if (flipped)
        transpose(turned, to);
    else
        copy(to.at, turned.at, room(to));
}

// Z = B V. The outermost factors are left out where they are identities.
void Preconditioner::see(const Problem &problem, double *direction) {
    const Layout &layout = problem.layout;
    const int h = layout.depth;
    int count = 0;
    Matrix apart = {};
    for (int l = 0; l < h; l++) {
        multiply(passed[l], Factors(above_flipped[l], layout.layer(direction, l), true), packing);
        if (l == 0 && unit_below)
            apart = passed[0];
        else
            terms[count++] = Factors(passed[l], below[l]);
    }
    if (count)
        multiply(Z, terms, count, packing);
    else
        clear(Z.at, room(Z));
    if (apart.at) add(Z, 1, apart);
}

// answer = about (I + tau B E^-1 B^T)^-1 Z, by one step of Newton's iteration X <- X (2 - M X) for the inverse of a
// matrix M. It never exceeds the true inverse, whatever it starts from; hence the whole stays positive definite.
void Preconditioner::solve(const Problem &problem) {
    const int h = problem.layout.depth;
    nearly(Z, first);
    for (int l = 0; l < h; l++) {
        if (l == 0 && unit_below)
            scale(carried[l].at, weight[l], first.at, room(first));
        else
            multiply(carried[l], Factors(first, right[l]), packing);
        terms[l] = Factors(left[l], carried[l]);
    }
    multiply(rest, terms, h, packing);
    plus(rest.at, first.at, tau, rest.at, room(rest));
    nearly(rest, answer);
    scale(first.at, 2, first.at, room(first));
    plus(answer.at, first.at, -1, answer.at, room(answer));
}

void Preconditioner::apply(const Problem &problem, double *direction, double *out) {
    const Layout &layout = problem.layout;
    if (form == NONE) return copy(out, direction, layout.size());
    double *scaled = out;
    for (int l = 0; l < layout.depth; l++) {
        const size_t start = layout.offset[l], length = layout.offset[l + 1] - start;
        scale(scaled + start, weight[l], direction + start, length);
    }
    see(problem, scaled);
    solve(problem);
    for (int l = 0; l < layout.depth; l++) {
        const size_t start = layout.offset[l], length = layout.offset[l + 1] - start;
        if (l == 0 && unit_below)
            copy(answered[l].at, answer.at, room(answer));
        else
            multiply(answered[l], Factors(answer, below_flipped[l]), packing);
        multiply(layout.layer(out, l), Factors(above_flipped[l], answered[l]), packing);
        scale(out + start, -tau * weight[l], out + start, length);
        plus(out + start, out + start, weight[l], direction + start, length);
    }
    if (problem.mask)
        for (size_t i = 0; i < layout.size(); i += LANES) store(out + i, masked(load<Wide>(out + i), problem.mask + i));
}

}  // namespace deeplinear
