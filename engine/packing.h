// Products of wide matrices, block by block: a block of A and a panel of B are copied to where the innermost loop reads
// them one after another. As they lie, neighbours in a column are a row apart, each on a page of its own.
#pragma once
#include "products.h"

namespace deeplinear {

// Numbers that are needed to pack products of matrices up to so wide; 0 where all of them are faster as they lie.
size_t room_to_pack(int widest);

// Whether packing saves more than it costs. Sizes alone decide, so that the same product always has the same bits.
bool is_packed(const Matrix &C, const Factors *terms, int count);

// C = the sum of `count` products op(A) B.
void multiply_packed(const Matrix &C, const Factors *terms, int count, double *room);

}  // namespace deeplinear
