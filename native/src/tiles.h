// Products of pairs of bfloat16 on the matrix units: what `product` of product.h computes, in tiles of 16 × 16.
//
// The order of pairs that `product` reads is that of the instruction: `b` gives 16 rows of 16 pairs as they lie. Four
// tiles of sums, two by two, stay in registers while `a` and `b` are walked along the summed axis, so that each tile
// that is loaded is used twice. Where that axis ends within a tile, the rest of it comes from copies that end in zeros.
#pragma once
#include "tile_registers.h"

namespace regard::REGARD_ISA {

constexpr int kEdgeRows = 64;  // rows of `a` whose ends are copied at a time

// The last elements of rows along the summed axis, zeros after them.
struct alignas(64) TileEdges {
    uint32_t a[kEdgeRows * kTileSide];
    uint32_t b[2 * kTileSide * kTileSide];
};

REGARD_INLINE void copy_edge(const uint32_t* from, int64_t count, uint32_t* to) {
#if defined(__AVX512F__)
    _mm512_store_si512(to, _mm512_maskz_loadu_epi32(static_cast<__mmask16>((1u << count) - 1u), from));
#else
    for (int64_t at = 0; at < kTileSide; ++at) to[at] = at < count ? from[at] : 0;
#endif
}

// Tiles 0 to 3 hold sums (row of tiles · 2 + column of tiles), 4 and 5 rows of `a`, 6 and 7 columns of `b`.
template <int kRowTiles, int kColumnTiles>
REGARD_INLINE void add_tiles(const uint32_t* a, int64_t lda, const uint32_t* b, int64_t ldb) {
    load_tile<6>(b, 4 * ldb);
    load_tile<4>(a, 4 * lda);
    add_tile_product<0, 4, 6>();
    if constexpr (kColumnTiles == 2) {
        load_tile<7>(b + kTileSide, 4 * ldb);
        add_tile_product<1, 4, 7>();
    }
    if constexpr (kRowTiles == 2) {
        load_tile<5>(a + kTileSide * lda, 4 * lda);
        add_tile_product<2, 5, 6>();
        if constexpr (kColumnTiles == 2) add_tile_product<3, 5, 7>();
    }
}

template <int kTile>
REGARD_INLINE void begin_sum(const float* c, int64_t ldc, bool accumulate) {
    if (accumulate)
        load_tile<kTile>(c, 4 * ldc);
    else
        zero_tile<kTile>();
}

// One block of up to two by two tiles of c; `edge_a` and `edge_b` hold what follows the last whole tile of `depth`.
template <int kRowTiles, int kColumnTiles>
static void tile_block(const uint32_t* a, int64_t lda, const uint32_t* edge_a, const uint32_t* b, int64_t ldb,
                       const uint32_t* edge_b, int64_t depth, float* c, int64_t ldc, bool accumulate) {
    float* const below = c + kTileSide * ldc;
    begin_sum<0>(c, ldc, accumulate);
    if constexpr (kColumnTiles == 2) begin_sum<1>(c + kTileSide, ldc, accumulate);
    if constexpr (kRowTiles == 2) begin_sum<2>(below, ldc, accumulate);
    if constexpr (kRowTiles == 2 && kColumnTiles == 2) begin_sum<3>(below + kTileSide, ldc, accumulate);
    int64_t at = 0;
    for (; at + kTileSide <= depth; at += kTileSide)
        add_tiles<kRowTiles, kColumnTiles>(a + at, lda, b + at * ldb, ldb);
    if (at < depth) add_tiles<kRowTiles, kColumnTiles>(edge_a, kTileSide, edge_b, 2 * kTileSide);
    store_tile<0>(c, 4 * ldc);
    if constexpr (kColumnTiles == 2) store_tile<1>(c + kTileSide, 4 * ldc);
    if constexpr (kRowTiles == 2) store_tile<2>(below, 4 * ldc);
    if constexpr (kRowTiles == 2 && kColumnTiles == 2) store_tile<3>(below + kTileSide, 4 * ldc);
}

// c (rows × columns) = or += a (rows × depth) · b (depth × columns), panels of kColumns columns as `product` takes them.
// Whole tiles are read of `a` and written of `c`, so both must have room for a multiple of 16 rows, whatever is in them.
template <int kColumns>
static void tile_product(const uint32_t* a, int64_t lda, const uint32_t* b, int64_t ldb, int64_t next_panel,
                         int64_t rows, int64_t columns, int64_t depth, float* c, int64_t ldc, bool accumulate) {
    static_assert(kColumns % (2 * kTileSide) == 0, "panels hold whole pairs of tiles");
    const int64_t rest = depth % kTileSide, whole = depth - rest;
    TileEdges edges;
    if (rest) {
        for (uint32_t& element : edges.a) element = 0;
        for (uint32_t& element : edges.b) element = 0;
    }
    for (int64_t first = 0; first < rows; first += kEdgeRows, a += kEdgeRows * lda, c += kEdgeRows * ldc) {
        const int64_t here = least(kEdgeRows, rows - first);
        if (rest)
            for (int64_t row = 0; row < here; ++row) copy_edge(a + row * lda + whole, rest, edges.a + row * kTileSide);
        for (int64_t column = 0; column < columns; column += 2 * kTileSide) {
            const uint32_t* const from = b + column / kColumns * next_panel + column % kColumns;
            const bool two = columns - column > kTileSide;
            for (int64_t at = 0; at < rest; ++at) {
                const uint32_t* const row = from + (whole + at) * ldb;
                copy_edge(row, kTileSide, edges.b + at * 2 * kTileSide);
                if (two) copy_edge(row + kTileSide, kTileSide, edges.b + (at * 2 + 1) * kTileSide);
            }
            for (int64_t row = 0; row < here; row += 2 * kTileSide) {
                const auto block = here - row > kTileSide ? (two ? tile_block<2, 2> : tile_block<2, 1>)
                                                          : (two ? tile_block<1, 2> : tile_block<1, 1>);
                block(a + row * lda, lda, edges.a + row * kTileSide, from, ldb, edges.b, depth, c + row * ldc + column,
                      ldc, accumulate);
            }
        }
    }
}

}  // namespace regard::REGARD_ISA
