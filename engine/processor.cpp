// What this processor and its operating system can run, asked of the processor itself: compilers' own functions for it
// want libraries that not all of them bring along.
#include "engine.h"

#if defined(__x86_64__)
#include <cpuid.h>

namespace {

constexpr bool has(unsigned bits, unsigned wanted) { return (bits & wanted) == wanted; }

// Registers whose contents the operating system keeps when it changes between processes.
unsigned kept() {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

}  // namespace

// The levels of the x86-64 psABI: 3 has AVX2, FMA, BMI, F16C, LZCNT and MOVBE, 4 has AVX-512 F, BW, CD, DQ and VL.
int32_t deeplinear_processor(void) {
    constexpr unsigned XSAVED = 1u << 27, AVX = 1u << 28 | 1u << 12 | 1u << 22 | 1u << 29, LONG_ZEROS = 1u << 5;
    constexpr unsigned AVX2 = 1u << 5 | 1u << 3 | 1u << 8;
    constexpr unsigned AVX512 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;
    constexpr unsigned YMM = 0x6, ZMM = 0xe6;
    unsigned a, b, c, d, extended, more;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, XSAVED | AVX) || !has(kept(), YMM)) return 1;
    if (!__get_cpuid(0x80000001, &a, &b, &extended, &d) || !has(extended, LONG_ZEROS)) return 1;
    if (!__get_cpuid_count(7, 0, &a, &more, &c, &d) || !has(more, AVX2)) return 1;
    return has(more, AVX512) && has(kept(), ZMM) ? 4 : 3;
}

#else

int32_t deeplinear_processor(void) { return 1; }

#endif
