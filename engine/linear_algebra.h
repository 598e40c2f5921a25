// Singular values by rotations of rows, inverses of positive definite matrices.
#pragma once
#include "vectors.h"

namespace deeplinear {

// Turns the rows of A (m, n) until they are orthogonal: on return A holds diag(s) V^T and J (m, m) the turns, so that
// J A_before = A_after. J's rows are left singular vectors, complete and orthonormal whatever the rank; of a positive
// semidefinite A they are eigenvectors. `squares` (m) receives the squared norms of the rows. Any order. `accuracy`
// is the cosine between two rows that counts as none; to rounding: `columns` times that of a double.
void orthogonalise(const Matrix &A, const Matrix &J, double *squares, double accuracy);

// The inverse of a symmetric positive definite matrix, in its place; false where it is not positive definite.
bool invert(const Matrix &A);

}  // namespace deeplinear
