// Products of small matrices, the part of the work that takes the time: c (rows × columns) ± = a · b.
//
// `b` lies in rows of `ldb` elements of which whole vectors are read, `a` is read element by element and may lie in any
// order, and the accumulators of a tile of kTileRows × kTileVectors stay in registers. What an element is, the
// arithmetic says: a float, or a pair of bfloat16 that lie one after the other along the summed axis.
#pragma once
#include "simd.h"
#if defined(REGARD_TILES)
#include "tiles.h"
#endif
#if defined(REGARD_EMULATE_TILES)
#include "../emulate/pairs.h"
#endif

namespace regard::REGARD_ISA {

#if defined(__AVX512F__) || defined(REGARD_EMULATE_TILES)
constexpr int kTileRows = 6, kTileVectors = 4;  // 24 accumulators of 32 registers
#else
constexpr int kTileRows = 6, kTileVectors = 2;  // 12 accumulators of 16 registers
#endif
constexpr int kPanel = kTileVectors * kWidth;  // columns of a tile
#if defined(REGARD_TILES)
constexpr int kBlockRows = 64;   // rows that are computed together: whole tiles
constexpr int kFewTileRows = 4;  // as in decoding, where reading `b` takes the time: not worth a tile
#else
constexpr int kBlockRows = 60;  // rows that are computed together: whole tiles
#endif

// One float an element.
struct Floats {
    typedef float Element;
    static constexpr int kPerElement = 1;
    REGARD_INLINE Vec multiply_add(Vec sum, float left, const float* right) { return sum + left * load(right); }
    REGARD_INLINE Vec multiply_add(Vec sum, const float* left, const float* right) {
        return sum + load(left) * load(right);
    }
};

#if defined(__AVX512BF16__) && !defined(REGARD_EMULATE_TILES)
// Two bfloat16 an element: their products are summed in float32.
struct Pairs {
    typedef uint32_t Element;
    static constexpr int kPerElement = 2;
    REGARD_INLINE Vec multiply_add(Vec sum, uint32_t left, const uint32_t* right) {
        return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)all_bits(left), (__m512bh)load_bits(right));
    }
    REGARD_INLINE Vec multiply_add(Vec sum, const uint32_t* left, const uint32_t* right) {
        return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)load_bits(left), (__m512bh)load_bits(right));
    }

    // Round a row of floats, whole vectors of them, to pairs.
    static void narrow(const float* from, int64_t count, uint32_t* to) {
        int64_t at = 0;
        for (; at + 2 * kWidth <= count; at += 2 * kWidth)
            store_bits(to + at / 2, (Bits)_mm512_cvtne2ps_pbh((__m512)load(from + at + kWidth), (__m512)load(from + at)));
        if (at < count) {
            const __m256bh half = _mm512_cvtneps_pbh((__m512)load(from + at));
            __builtin_memcpy(to + at / 2, &half, sizeof(half));
        }
    }
};
#endif

template <class Arithmetic, int Rows, int Vectors>
static inline __attribute__((always_inline)) void tile(
    const typename Arithmetic::Element* __restrict__ a, int64_t a_row, int64_t a_column,
    const typename Arithmetic::Element* __restrict__ b, int64_t ldb, int64_t depth, float* __restrict__ c, int64_t ldc,
    bool accumulate) {
    Vec sums[Rows][Vectors];
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 4
        for (int vector = 0; vector < Vectors; ++vector)
            sums[row][vector] = accumulate ? load(c + row * ldc + vector * kWidth) : Vec{};
    for (int64_t at = 0; at < depth; ++at) {
#pragma GCC unroll 8
        for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 4
            for (int vector = 0; vector < Vectors; ++vector)
                sums[row][vector] = Arithmetic::multiply_add(sums[row][vector], a[row * a_row + at * a_column],
                                                             b + at * ldb + vector * kWidth);
    }
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 4
        for (int vector = 0; vector < Vectors; ++vector) store(c + row * ldc + vector * kWidth, sums[row][vector]);
}

// One panel: `Vectors` vectors of columns, any number of rows.
template <class Arithmetic, int Vectors>
static void panel_product(const typename Arithmetic::Element* a, int64_t a_row, int64_t a_column,
                          const typename Arithmetic::Element* b, int64_t ldb, int64_t rows, int64_t depth, float* c,
                          int64_t ldc, bool accumulate) {
    int64_t row = 0;
    for (; row + kTileRows <= rows; row += kTileRows)
        tile<Arithmetic, kTileRows, Vectors>(a + row * a_row, a_row, a_column, b, ldb, depth, c + row * ldc, ldc,
                                             accumulate);
    a += row * a_row;
    c += row * ldc;
    switch (rows - row) {
        case 5: return tile<Arithmetic, 5, Vectors>(a, a_row, a_column, b, ldb, depth, c, ldc, accumulate);
        case 4: return tile<Arithmetic, 4, Vectors>(a, a_row, a_column, b, ldb, depth, c, ldc, accumulate);
        case 3: return tile<Arithmetic, 3, Vectors>(a, a_row, a_column, b, ldb, depth, c, ldc, accumulate);
        case 2: return tile<Arithmetic, 2, Vectors>(a, a_row, a_column, b, ldb, depth, c, ldc, accumulate);
        case 1: return tile<Arithmetic, 1, Vectors>(a, a_row, a_column, b, ldb, depth, c, ldc, accumulate);
        default: return;
    }
}

// c (rows × columns) = or += a (rows × depth) · b (depth × columns). Columns are computed in whole vectors, so `b` and
// `c` must have room for them. Panel after panel of kPanel columns lies `next_panel` elements after the one before:
// kPanel where b is one matrix, depth · kPanel where each panel lies for itself.
template <class Arithmetic>
static void product(const typename Arithmetic::Element* a, int64_t a_row, int64_t a_column,
                    const typename Arithmetic::Element* b, int64_t ldb, int64_t next_panel, int64_t rows,
                    int64_t columns, int64_t depth, float* c, int64_t ldc, bool accumulate) {
#if defined(REGARD_TILES)
    if constexpr (Arithmetic::kPerElement == 2)
        if (a_column == 1 && rows > kFewTileRows)
            return tile_product<kPanel>(a, a_row, b, ldb, next_panel, rows, columns, depth, c, ldc, accumulate);
#endif
    for (; columns > 0; columns -= kPanel, b += next_panel, c += kPanel) {
        const int64_t vectors = blocks_of(least(columns, kPanel), kWidth);
#define REGARD_VECTORS(count)                                                                                     \
    case count:                                                                                                   \
        panel_product<Arithmetic, count>(a, a_row, a_column, b, ldb, rows, depth, c, ldc, accumulate);            \
        break
        switch (vectors) {
            REGARD_VECTORS(1);
            REGARD_VECTORS(2);
#if defined(__AVX512F__) || defined(REGARD_EMULATE_TILES)
            REGARD_VECTORS(3);
            REGARD_VECTORS(4);
#endif
            default: break;
        }
#undef REGARD_VECTORS
    }
}

// What a thread holds while it computes products: the registers of the matrix units, where the arithmetic has them.
template <class Arithmetic>
struct MatrixUnits {
    MatrixUnits() {}
};
#if defined(REGARD_TILES)
template <>
struct MatrixUnits<Pairs> : TileRegisters {};
#endif

}  // namespace regard::REGARD_ISA
