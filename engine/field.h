// The vector field of the gradient flow of a squared error, and its derivative.
//
//     dW_l/dt = S_l^T (-grad L(W)) P_l^T - gamma_l W_l,    L(W) = c/2 |(W - W*) T|_F^2,    W = W_{h-1} ... W_0,
//
// with S_l the product of the layers above layer l and P_l of those below. Everything is accumulated from the side of
// the outputs, which is the thinner one here: where it is not, the door hands over the transposed problem (`flipped`),
// whose flow is the same. Entries that a mask holds do not move.
//
// Source: the gradient of a product; Arora, Cohen and Hazan (2018), eq. (4).
#pragma once
#include "vectors.h"

namespace deeplinear {

// How (W - W*) sees the inputs. T T^T = Sigma acts on the side of the inputs: from the right, or, where the problem is
// flipped, from the left.
struct Inputs {
    enum { WHITE, FORMED, ROOT } form = WHITE;
    bool flipped = false;
    Matrix sigma;                   // (d, d), where it is formed
    Matrix root, root_transposed;   // T (d, k) and T^T, unless white
};

struct Problem {
    Layout layout;
    Matrix optimum;  // W* (d_h, d_0)
    Inputs inputs;
    double factor;         // c
    const double *decay;   // gamma of every layer; null: none
    const uint64_t *mask;  // all bits of what learns, no bit of what is held, laid out as a network; null: all learns
    double *packing;       // room for products of wide matrices (products.h)
    const volatile int *stop = nullptr;

    int rows() const { return layout.widths[layout.depth]; }
    int columns() const { return layout.widths[0]; }
    // Somebody does not want to wait any longer: fields are no longer evaluated, whatever was under way means nothing.
    bool stopped() const { return *stop; }
};

// Products along a chain of layers, kept for those that need them again.
struct Chain {
    Matrix *above;             // [l] S_l (d_h, d_{l+1}), l = 0..h-2; the last one is layer h-1 itself
    Matrix *residual;          // [l] R_l = (-grad L) P_l^T (d_h, d_l)
    Matrix *residual_flipped;  // [l] R_l^T
    Matrix end_to_end;         // W (d_h, d_0)
    Matrix rooted;             // between T and T^T

    static Chain of(const Problem &problem, Arena &arena);
};

// out = W_{h-1} ... W_0.
void end_to_end(const Problem &problem, double *network, const Chain &chain, const Matrix &out);

// out = the field at `network`; the chain's products are those at `network` then.
void velocity(const Problem &problem, Chain &chain, double *network, double *out);

// out = the field's derivative at `network` in `direction`; `at` holds the products at `network`, `moved` is for
// theirs.
void derivative(
    const Problem &problem, const Chain &at, Chain &moved, double *network, double *direction, double *out);

// L(W) above its minimum.
double excess(const Problem &problem, const Matrix &W, Chain &scratch);

// |grad L(W)|_F.
double gradient_norm(const Problem &problem, const Matrix &W, Chain &scratch);

// The length that steps and differences are shares of: |network|, but of a single layer, which does not grow out of
// itself and may start at zero, |W*| at least.
double scale_of(const Problem &problem, const double *network);

// Sum over layers of the product of the other layers' norms: by how much the field can exceed the gradient in W.
double sensitivity(const Layout &layout, const double *network);

}  // namespace deeplinear
