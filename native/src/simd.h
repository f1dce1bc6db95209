// Vectors of floats, as wide as the instruction set that this translation unit is compiled for.
//
// The code is written in the vector extensions of GCC and Clang, which become AVX-512, AVX2, SSE2 or NEON. It calls no
// function of the standard library's headers: those are merged across translation units, and a copy that was compiled
// for AVX-512 would then run on a processor without.
#pragma once
#include <cstdint>
#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#ifndef REGARD_ISA
#error "REGARD_ISA must name the namespace of this instruction set"
#endif

// Whether there are instructions for pairs of bfloat16, and for whole tiles of them; tests emulate both.
#if defined(__AVX512BF16__) || defined(REGARD_EMULATE_TILES)
#define REGARD_PAIRS
#endif
#if defined(__AMX_BF16__) || defined(REGARD_EMULATE_TILES)
#define REGARD_TILES
#endif

namespace regard::REGARD_ISA {

#if defined(__AVX512F__) || defined(REGARD_EMULATE_TILES)
constexpr int kWidth = 16;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

typedef float Vec __attribute__((vector_size(kWidth * 4)));
typedef int32_t Ints __attribute__((vector_size(kWidth * 4)));
typedef uint32_t Bits __attribute__((vector_size(kWidth * 4)));
typedef float LooseVec __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));
// Pairs of bfloat16, which begin at any of them: a row of an odd width leaves the next one between two words.
typedef uint32_t LooseBits __attribute__((vector_size(kWidth * 4), aligned(2), may_alias));

#define REGARD_INLINE static inline __attribute__((always_inline))

constexpr float kInfinity = __builtin_inff();
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

REGARD_INLINE Vec load(const float* from) { return *reinterpret_cast<const LooseVec*>(from); }
REGARD_INLINE void store(float* to, Vec value) { *reinterpret_cast<LooseVec*>(to) = value; }
REGARD_INLINE Bits load_bits(const void* from) { return *static_cast<const LooseBits*>(from); }
REGARD_INLINE void store_bits(void* to, Bits value) { *static_cast<LooseBits*>(to) = value; }
REGARD_INLINE Vec all(float value) { return Vec{} + value; }
REGARD_INLINE Bits all_bits(uint32_t value) { return Bits{} + value; }

// The larger and the smaller of two numbers; `right` where either of them is NaN, so that is where NaN has to stay.
REGARD_INLINE Vec larger(Vec left, Vec right) {
#if defined(__AVX512F__)
    return (Vec)_mm512_max_ps((__m512)left, (__m512)right);
#elif defined(__AVX2__)
    return (Vec)_mm256_max_ps((__m256)left, (__m256)right);
#else
    return left > right ? left : right;
#endif
}

REGARD_INLINE Vec smaller(Vec left, Vec right) {
#if defined(__AVX512F__)
    return (Vec)_mm512_min_ps((__m512)left, (__m512)right);
#elif defined(__AVX2__)
    return (Vec)_mm256_min_ps((__m256)left, (__m256)right);
#else
    return left < right ? left : right;
#endif
}

REGARD_INLINE Vec absolute(Vec value) { return (Vec)((Bits)value & 0x7fffffffu); }
REGARD_INLINE Vec either(Ints where, Vec yes, Vec no) { return where ? yes : no; }

REGARD_INLINE float sum(Vec value) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)value);
#else
    float total = 0.0f;
    for (int lane = 0; lane < kWidth; ++lane) total += value[lane];
    return total;
#endif
}

REGARD_INLINE float largest(Vec value) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)value);
#else
    float found = value[0];
    for (int lane = 1; lane < kWidth; ++lane) found = value[lane] > found ? value[lane] : found;
    return found;
#endif
}

REGARD_INLINE Vec lanes() {
    Vec value;
    for (int lane = 0; lane < kWidth; ++lane) value[lane] = static_cast<float>(lane);
    return value;
}

REGARD_INLINE Ints int_lanes() {
    Ints value;
    for (int lane = 0; lane < kWidth; ++lane) value[lane] = lane;
    return value;
}

// 2^x for x ≤ 127: relative error below 2e-7, and exactly 0 from x = -127 down, so for -inf; NaN of NaN.
REGARD_INLINE Vec exp2(Vec x) {
    x = larger(all(-127.0f), x);
#if defined(__AVX512F__)
    const Vec whole = (Vec)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    const Vec magic = all(12582912.0f);  // 1.5 · 2^23: adding it rounds to a whole number
    const Vec shifted = x + magic;
    const Vec whole = shifted - magic;
#endif
    const Vec part = x - whole;
    // Taylor's series of 2^part on [-1/2, 1/2], with the last coefficients moved to spread the error.
    Vec value = all(1.5353362e-4f);
    value = value * part + all(1.3398874e-3f);
    value = value * part + all(9.6184370e-3f);
    value = value * part + all(5.5503324e-2f);
    value = value * part + all(2.4022648e-1f);
    value = value * part + all(6.9314720e-1f);
    value = value * part + all(1.0f);
#if defined(__AVX512F__)
    const Bits exponent = (Bits)__builtin_convertvector(whole, Ints);
#else
    const Bits exponent = (Bits)shifted - (Bits)magic;
#endif
    return value * (Vec)((exponent + 127u) << 23);
}

REGARD_INLINE float exp2(float x) { return exp2(all(x))[0]; }

// log2 of a normal positive number: relative error of the mantissa's series below 1e-7.
REGARD_INLINE float log2(float x) { return __builtin_log2f(x); }

// tanh by 1 - 2 / (1 + e^{2x}); near 0, where that loses digits, by its series.
REGARD_INLINE Vec tanh(Vec x) {
    const Vec size = absolute(x);
    const Vec far = 1.0f - 2.0f / (1.0f + exp2(smaller(all(40.0f), size * (2.0f * kLog2E))));
    const Vec square = x * x;
    Vec near = all(-17.0f / 315.0f);
    near = near * square + all(2.0f / 15.0f);
    near = near * square + all(-1.0f / 3.0f);
    near = near * square * size + size;
    const Vec found = either(size < all(0.15f), near, far);
    return (Vec)(((Bits)x & 0x80000000u) | (Bits)found);
}

// Random numbers of weights: 32 bits for each row and key, the same wherever and in whatever order they are asked for.
// A row has two numbers of its own; those of its keys follow by the multiplications and shifts of Wellons' lowbias32
// (https://nullprogram.com/blog/2018/07/31/, public domain), the row's second number added between them, so that no two
// rows run through the same sequence.
struct RowNumbers {
    uint32_t first, second;
};

REGARD_INLINE RowNumbers row_numbers(uint64_t seed, int64_t head, int64_t row) {
    uint64_t x = seed + 0x9e3779b97f4a7c15ull * static_cast<uint64_t>(head + 1) +
                 0xd1342543de82ef95ull * static_cast<uint64_t>(row + 1);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    x ^= x >> 31;
    return {static_cast<uint32_t>(x), static_cast<uint32_t>(x >> 32)};
}

REGARD_INLINE Bits weight_numbers(Bits first, Bits second, Bits keys) {
    Bits x = keys * 0x9e3779b9u + first;
    x ^= x >> 16;
    x *= 0x7feb352du;
    x += second;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return x;
}

REGARD_INLINE int64_t least(int64_t left, int64_t right) { return left < right ? left : right; }
REGARD_INLINE int64_t most(int64_t left, int64_t right) { return left > right ? left : right; }
REGARD_INLINE int64_t blocks_of(int64_t count, int64_t size) { return (count + size - 1) / size; }
REGARD_INLINE int64_t rounded_up(int64_t count, int64_t size) { return blocks_of(count, size) * size; }

}  // namespace regard::REGARD_ISA
