#include "linear_algebra.h"

#include <float.h>

namespace deeplinear {
namespace {

constexpr int MOST_SWEEPS = 40;  // about 8 are needed

// Whole vectors in a row, in the width that rows of such a matrix have.
template <class V> size_t width(const Matrix &M) {
    constexpr size_t LENGTH = sizeof(V) / sizeof(double);
    return (size_t(M.columns) + LENGTH - 1) / LENGTH * LENGTH;
}

template <class V> double row_dot(const Matrix &M, int i, int j) {
    constexpr size_t LENGTH = sizeof(V) / sizeof(double);
    const double *a = M.row(i), *b = M.row(j);
    const size_t end = width<V>(M);
    V even = {}, odd = {};  // two sums, that one need not wait for the other
    size_t k = 0;
    for (; k + 2 * LENGTH <= end; k += 2 * LENGTH) {
        even += load<V>(a + k) * load<V>(b + k);
        odd += load<V>(a + k + LENGTH) * load<V>(b + k + LENGTH);
    }
    if (k < end) even += load<V>(a + k) * load<V>(b + k);
    return sum_of(even + odd);
}

// (row i, row j) -> (c row i - s row j, s row i + c row j)
template <class V> void rotate(const Matrix &M, int i, int j, double c, double s) {
    double *a = M.row(i), *b = M.row(j);
    for (size_t k = 0; k < width<V>(M); k += sizeof(V) / sizeof(double)) {
        const V x = load<V>(a + k), y = load<V>(b + k);
        store(a + k, c * x - s * y);
        store(b + k, s * x + c * y);
    }
}

// row i -= factor * row k
void eliminate(const Matrix &M, int i, int k, double factor) {
    double *a = M.row(i);
    const double *b = M.row(k);
    for (size_t j = 0; j < width<Vector4>(M); j += 4)
        store(a + j, load<Vector4>(a + j) - factor * load<Vector4>(b + j));
}

// Source: Hestenes (1958), J. SIAM 6, 51-90; Golub and Van Loan (2013), Matrix Computations, section 8.6.3.
template <class V> void turn_rows(const Matrix &A, const Matrix &J, double *squares, double accuracy) {
    bool turned = true;
    for (int sweep = 0; sweep < MOST_SWEEPS && turned; sweep++) {
        turned = false;
        double largest = 0;
        for (int i = 0; i < A.rows; i++) {
            squares[i] = row_dot<V>(A, i, i);
            largest = greater(largest, squares[i]);
        }
        const double nothing = A.columns * DBL_EPSILON * (A.columns * DBL_EPSILON) * largest;
        for (int i = 0; i < A.rows; i++)
            for (int j = i + 1; j < A.rows; j++) {
                if (!(squares[i] > nothing && squares[j] > nothing)) continue;  // a row of rounding has no direction
                const double product = row_dot<V>(A, i, j);
                if (!(fabs(product) > accuracy * sqrt(squares[i]) * sqrt(squares[j]))) continue;
                const double zeta = (squares[j] - squares[i]) / (2 * product);
                const double t = copysign(1 / (fabs(zeta) + sqrt(1 + zeta * zeta)), zeta), c = 1 / sqrt(1 + t * t);
                rotate<V>(A, i, j, c, c * t);
                rotate<V>(J, i, j, c, c * t);
                squares[i] -= t * product;
                squares[j] += t * product;
                turned = true;
            }
    }
    for (int i = 0; i < A.rows; i++) squares[i] = row_dot<V>(A, i, i);
}

}  // namespace

void orthogonalise(const Matrix &A, const Matrix &J, double *squares, double accuracy) {
    for (int i = 0; i < J.rows; i++) {
        clear(J.row(i), J.stride);
        J.row(i)[i] = 1;
    }
    // the widest vectors only where rows of both are whole numbers of them
    if (A.columns > NARROW && J.columns > NARROW)
        turn_rows<Wide>(A, J, squares, accuracy);
    else
        turn_rows<Vector4>(A, J, squares, accuracy);
}

// Gauss-Jordan elimination; no pivoting, for the pivots of a positive definite matrix are never small by cancellation.
bool invert(const Matrix &A) {
    for (int k = 0; k < A.rows; k++) {
        double *row = A.row(k);
        if (!(row[k] > 0)) return false;
        const double scale = 1 / row[k];
        row[k] = 1;
        for (size_t j = 0; j < width<Vector4>(A); j += 4) store(row + j, scale * load<Vector4>(row + j));
        for (int i = 0; i < A.rows; i++) {
            if (i == k) continue;
            const double factor = A.row(i)[k];
            A.row(i)[k] = 0;
            eliminate(A, i, k, factor);
        }
    }
    return true;
}

}  // namespace deeplinear
