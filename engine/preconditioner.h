// The Gauss-Newton part of the Hessian, inverted in the space of end-to-end matrices.
//
// Minus the field's derivative is H = D + B^T B + ..., with D the decay, B V = sum_l S_l V_l P_l how the end-to-end
// matrix (times the root of c Sigma) answers to a direction V; the rest shrinks with the residual. What makes a flow
// stiff is B^T B alone, and with E = I + tau D
//
//     (E + tau B^T B)^-1 = E^-1 - tau E^-1 B^T (I + tau B E^-1 B^T)^-1 B E^-1,
//     B E^-1 B^T Z = sum_l S_l S_l^T Z P_l^T P_l / E_l.
//
// In a balanced network all S_l S_l^T have the same eigenvectors, and for white inputs all P_l^T P_l have too: then B
// E^-1 B^T is diagonal between them. For other inputs it has a block for each eigenvector of the outputs. A network
// that is not balanced costs some iterations. On 64-32-32-10 with the correlated inputs of handwritten digits a solve
// takes 3 products instead of 140.
#pragma once
#include "field.h"

namespace deeplinear {

class Preconditioner {
  public:
    static constexpr int WIDEST = 400;  // inputs or outputs beyond which eigenvectors cost more than they save
    static constexpr size_t MOST_IN_BLOCKS = 1u << 22;  // numbers in all blocks; were there more, they are left out

    static Preconditioner of(const Problem &problem, Arena &arena);

    // Makes ready for a network and a tau.
    void prepare(const Problem &problem, double *network, double tau);

    // out = (I + tau H)^-1 direction, approximately: symmetric and positive definite, within the subspace of a mask.
    void apply(const Problem &problem, double *direction, double *out);

  private:
    enum { NONE, DIAGONAL, BLOCKS } form = NONE;
    bool flipped = false;       // blocks act from the left
    bool unit_above = true;     // S_{h-1} is the identity, not T^T
    bool unit_below = true;     // P_0 is the identity, not T
    double tau = 0;
    int p = 0, q = 0;           // rows and columns of B V
    double *packing = nullptr;  // the problem's
    double *weight = nullptr;   // [l] 1 / E_l
    Matrix *above_flipped = nullptr, *below = nullptr, *below_flipped = nullptr;  // [l] S_l^T, P_l, P_l^T
    Matrix *left = nullptr, *right = nullptr;     // [l] S_l S_l^T (p, p), P_l^T P_l / E_l (q, q)
    Matrix *passed = nullptr, *answered = nullptr, *carried = nullptr;  // [l] scratch
    Factors *terms = nullptr;
    Matrix U, V, V_flipped;     // eigenvectors in rows, of the left and of the right side
    Matrix mean_left, mean_right, turned_left, turned_right;
    double *squares = nullptr, *seen_left = nullptr, *seen_right = nullptr;
    Matrix stiffness;           // [a][b] 1 + tau times the eigenvalue between u_a and v_b
    Matrix *blocks = nullptr;   // the inverse of I + tau B E^-1 B^T for every eigenvector of the side without T
    Matrix Z, answer, first, rest, between, Z_flipped;
    Matrix turned, solved;      // in rows of eigenvectors

    void sides(const Problem &problem, double *network);
    void see(const Problem &problem, double *direction);
    void solve(const Problem &problem);
    void nearly(const Matrix &from, const Matrix &to);
    void diagonalise(const Problem &problem);
    void block(const Problem &problem);
};

}  // namespace deeplinear
