// Memory of one run: asked for when it begins, freed when it ends, nothing in between.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "products.h"

namespace deeplinear {

class Arena {
  public:
    bool failed = false;  // the system had no more memory; what was handed out since is null

    // Zeros, on the boundary of a cache line.
    template <class T> T *array(size_t count) {
        size_t bytes;
        if (__builtin_mul_overflow(count, sizeof(T), &bytes) || bytes > SIZE_MAX / 2) return fail<T>();
        Block *block = static_cast<Block *>(calloc(1, sizeof(Block) + LINE + bytes));
        if (!block) return fail<T>();
        block->before = last;
        last = block;
        const uintptr_t first = reinterpret_cast<uintptr_t>(block + 1);
        return reinterpret_cast<T *>((first + LINE - 1) / LINE * LINE);
    }

    Matrix matrix(int rows, int columns) {
        const size_t stride = stride_of(columns);
        return {array<double>(room_of_rows(rows) * stride), rows, columns, stride};
    }

    void free_all() {
        while (last) {
            Block *before = last->before;
            free(last);
            last = before;
        }
    }

  private:
    static constexpr uintptr_t LINE = 64;
    struct Block {
        Block *before;
    };
    Block *last = nullptr;

    template <class T> T *fail() {
        failed = true;
        return nullptr;
    }
};

}  // namespace deeplinear
