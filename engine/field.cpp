#include "field.h"

namespace deeplinear {
namespace {

// Of a matrix with room for whole blocks of rows: a multiple of 16, zeros included.
size_t room(const Matrix &M) { return room_of_rows(M.rows) * M.stride; }

// out = factor (A - B), entry by entry; all three are laid out alike.
void difference(const Matrix &out, double factor, const Matrix &A, const Matrix &B) {
    for (size_t i = 0; i < size_t(out.rows) * out.stride; i += 4)
        store(out.at + i, factor * (load<Vector4>(A.at + i) - load<Vector4>(B.at + i)));
}

void scaled(const Matrix &out, double factor, const Matrix &A) {
    for (size_t i = 0; i < size_t(out.rows) * out.stride; i += 4) store(out.at + i, factor * load<Vector4>(A.at + i));
}

// out = D Sigma, or Sigma D where the problem is flipped. D is not out.
void seen_by_inputs(const Problem &problem, const Matrix &D, const Matrix &rooted, const Matrix &out) {
    const Inputs &inputs = problem.inputs;
    double *const room = problem.packing;
    if (inputs.form == Inputs::FORMED && !inputs.flipped) multiply(out, Factors(D, inputs.sigma), room);
    if (inputs.form == Inputs::FORMED && inputs.flipped) multiply(out, Factors(inputs.sigma, D), room);
    if (inputs.form == Inputs::ROOT && !inputs.flipped) {
        multiply(rooted, Factors(D, inputs.root), room);
        multiply(out, Factors(rooted, inputs.root_transposed), room);
    }
    if (inputs.form == Inputs::ROOT && inputs.flipped) {
        multiply(rooted, Factors(inputs.root_transposed, D), room);
        multiply(out, Factors(inputs.root, rooted), room);
    }
}

// out = factor (A - B) Sigma, or factor A Sigma where B is null. A may be overwritten where inputs are not white.
void pulled(const Problem &problem, double factor, const Matrix &A, const Matrix *B, Chain &chain, const Matrix &out) {
    const Matrix &D = problem.inputs.form == Inputs::WHITE ? out : chain.end_to_end;
    if (B)
        difference(D, factor, A, *B);
    else
        scaled(D, factor, A);
    seen_by_inputs(problem, D, chain.rooted, out);
}

// What every layer gets beside the loss: its decay; and nothing at all where it is held.
void decay_and_hold(const Problem &problem, const double *network, double *out) {
    const Layout &layout = problem.layout;
    if (problem.decay)
        for (int l = 0; l < layout.depth; l++)
            plus(out + layout.offset[l], out + layout.offset[l], -problem.decay[l], network + layout.offset[l],
                 layout.offset[l + 1] - layout.offset[l]);
    if (problem.mask)
        for (size_t i = 0; i < layout.size(); i += LANES) store(out + i, masked(load<Wide>(out + i), problem.mask + i));
}

}  // namespace

Chain Chain::of(const Problem &problem, Arena &arena) {
    const Layout &layout = problem.layout;
    const int h = layout.depth, rows = problem.rows();
    Chain chain = {arena.array<Matrix>(h), arena.array<Matrix>(h), arena.array<Matrix>(h), {}, {}};
    if (arena.failed) return chain;
    for (int l = 0; l < h; l++) {
        if (l < h - 2) chain.above[l] = arena.matrix(rows, layout.widths[l + 1]);
        chain.residual[l] = arena.matrix(rows, layout.widths[l]);
        chain.residual_flipped[l] = arena.matrix(layout.widths[l], rows);
    }
    chain.end_to_end = arena.matrix(rows, problem.columns());
    if (problem.inputs.form != Inputs::WHITE) {
        const int rank = problem.inputs.root.columns;
        chain.rooted = problem.inputs.flipped ? arena.matrix(rank, problem.columns()) : arena.matrix(rows, rank);
    }
    return chain;
}

void end_to_end(const Problem &problem, double *network, const Chain &chain, const Matrix &out) {
    const Layout &layout = problem.layout;
    const int top = layout.depth - 1;
    Matrix product = layout.layer(network, top);
    if (top == 0) scaled(out, 1, product);
    for (int l = top - 1; l >= 0; l--) {
        const Matrix &next = l == 0 ? out : chain.above[l - 1];
        multiply(next, Factors(product, layout.layer(network, l)), problem.packing);
        product = next;
    }
}

void velocity(const Problem &problem, Chain &chain, double *network, double *out) {
    if (problem.stopped()) return;
    const Layout &layout = problem.layout;
    const int top = layout.depth - 1;
    if (top > 0) chain.above[top - 1] = layout.layer(network, top);
    end_to_end(problem, network, chain, chain.end_to_end);
    pulled(problem, problem.factor, problem.optimum, &chain.end_to_end, chain, chain.residual[0]);
    if (top == 0) scaled(layout.layer(out, 0), 1, chain.residual[0]);
    for (int l = 0; l < top && !problem.stopped(); l++) {
        if (l == 0) transpose(chain.residual[0], chain.residual_flipped[0]);
        multiply(chain.residual_flipped[l + 1], Factors(layout.layer(network, l), chain.residual_flipped[l]),
                 problem.packing);
        const Matrix next = l + 1 == top ? layout.layer(out, top) : chain.residual[l + 1];
        transpose(chain.residual_flipped[l + 1], next);
        multiply(layout.layer(out, l), Factors(chain.above[l], chain.residual[l], true), problem.packing);
    }
    decay_and_hold(problem, network, out);
}

void derivative(
    const Problem &problem, const Chain &at, Chain &moved, double *network, double *direction, double *out) {
    if (problem.stopped()) return;
    const Layout &layout = problem.layout;
    const int top = layout.depth - 1;
    Matrix change = layout.layer(direction, top);  // of the product of the layers from l on
    if (top > 0) moved.above[top - 1] = change;
    for (int l = top - 1; l >= 0; l--) {
        const Matrix &next = l == 0 ? moved.end_to_end : moved.above[l - 1];
        const Factors terms[] = {{change, layout.layer(network, l)}, {at.above[l], layout.layer(direction, l)}};
        multiply(next, terms, 2, problem.packing);
        change = next;
    }
    pulled(problem, -problem.factor, change, nullptr, moved, moved.residual[0]);
    if (top == 0) scaled(layout.layer(out, 0), 1, moved.residual[0]);
    for (int l = 0; l < top && !problem.stopped(); l++) {
        if (l == 0) transpose(moved.residual[0], moved.residual_flipped[0]);
        const Factors below[] = {{layout.layer(network, l), moved.residual_flipped[l]},
                                 {layout.layer(direction, l), at.residual_flipped[l]}};
        multiply(moved.residual_flipped[l + 1], below, 2, problem.packing);
        const Matrix next = l + 1 == top ? layout.layer(out, top) : moved.residual[l + 1];
        transpose(moved.residual_flipped[l + 1], next);
        const Factors both[] = {{moved.above[l], at.residual[l], true}, {at.above[l], moved.residual[l], true}};
        multiply(layout.layer(out, l), both, 2, problem.packing);
    }
    decay_and_hold(problem, direction, out);
}

double excess(const Problem &problem, const Matrix &W, Chain &scratch) {
    const Inputs &inputs = problem.inputs;
    const Matrix &D = scratch.end_to_end;
    difference(D, 1, W, problem.optimum);
    if (inputs.form == Inputs::WHITE) return problem.factor / 2 * dot(D.at, D.at, room(D));
    if (inputs.flipped)
        multiply(scratch.rooted, Factors(inputs.root_transposed, D), problem.packing);
    else
        multiply(scratch.rooted, Factors(D, inputs.root), problem.packing);
    return problem.factor / 2 * dot(scratch.rooted.at, scratch.rooted.at, room(scratch.rooted));
}

double gradient_norm(const Problem &problem, const Matrix &W, Chain &scratch) {
    const Matrix &G = scratch.residual[0];
    pulled(problem, problem.factor, W, &problem.optimum, scratch, G);
    return norm(G.at, room(G));
}

double scale_of(const Problem &problem, const double *network) {
    const double length = norm(network, problem.layout.size());
    const Matrix &optimum = problem.optimum;
    return problem.layout.depth > 1 ? length : greater(length, norm(optimum.at, room(optimum)));
}

double sensitivity(const Layout &layout, const double *network) {
    double sum = 0;
    for (int l = 0; l < layout.depth; l++) {
        double others = 1;
        for (int m = 0; m < layout.depth; m++)
            if (m != l) others *= norm(network + layout.offset[m], layout.offset[m + 1] - layout.offset[m]);
        sum += others;
    }
    return sum;
}

}  // namespace deeplinear
