// Products of matrices whose sizes are known at run time only, a few entries to a few thousand wide.
#pragma once
#include "simd.h"

namespace deeplinear {

// Entry (i, j) is at[i * stride + j]. Between `columns` and `stride` there are zeros, so that rows are whole vectors.
struct Matrix {
    double *at;
    int rows, columns;
    size_t stride;

    double *row(int i) const { return at + size_t(i) * stride; }
};

// Columns of a narrow matrix: its rows are whole vectors of 4, for every entry counts; those of others, of 8.
constexpr int NARROW = 12;

// Room that a row takes. Multiples of 64 entries are left out, for they would put the entries of a column into few sets
// of the first cache.
constexpr size_t stride_of(int columns) {
    const size_t s = columns <= NARROW ? (size_t(columns) + 3) / 4 * 4 : (size_t(columns) + 7) / 8 * 8;
    return s % 64 == 0 ? s + 8 : s;
}

// Rows for which room is kept in matrices that are transposed: whole blocks of 4 x 4.
constexpr size_t room_of_rows(int rows) { return (size_t(rows) + 3) / 4 * 4; }

// The factors of a product op(A) B, where op(A) is A or its transpose.
struct Factors {
    const double *a;  // op(A)_{ik} is a[i * down + k * along]
    size_t down, along;
    const double *b;
    size_t stride;
    int inner;

    Factors(const Matrix &A, const Matrix &B, bool transposed = false)
        : a(A.at), down(transposed ? 1 : A.stride), along(transposed ? A.stride : 1), b(B.at), stride(B.stride),
          inner(B.rows) {}
};

// C = op(A) B, or a sum of so many such products. C is none of the factors. `room` is `room_to_pack` numbers for wide
// matrices; null where no width is enough for any.
void multiply(const Matrix &C, const Factors *terms, int count, double *room);
inline void multiply(const Matrix &C, const Factors &only, double *room) { multiply(C, &only, 1, room); }

// B = A^T. A has room, filled with zeros, for whole blocks of 4 rows.
void transpose(const Matrix &A, const Matrix &B);

}  // namespace deeplinear
