// The tile registers in plain C++, for tests: what the instructions do, on any processor, and stricter.
//
// What the processor answers with an exception, or what would leave registers behind, ends the process with a sentence.
// The arithmetic is that of TDPBF16PS (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2): sums of
// the even and of the odd products in float32, their sum added to the tile, what is denormal taken and left as 0.
#pragma once
#include <cstdio>
#include <cstdlib>

#include "../src/tile_registers.h"
#include "pairs.h"

namespace regard::REGARD_ISA {

struct TileRegister {
    int rows, row_bytes;  // 0 before it is configured
    alignas(64) uint32_t data[kTileSide][kTileSide];
};

struct TileState {
    bool configured;
    TileRegister tiles[8];
};

static thread_local TileState tile_state;

static inline void require_of_tiles(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "emulated tiles: %s.\n", what);
    std::abort();
}

// Also ends the process where a thread still has the registers, or lets go of them without having them.
static inline void configure_tiles(const TileShapes& shapes) {
    require_of_tiles(!tile_state.configured, "registers must be released before they are configured again");
    require_of_tiles(reinterpret_cast<uintptr_t>(&shapes) % 64 == 0, "a configuration must lie on a cache line");
    require_of_tiles(shapes.palette == 1, "the palette must be 1");
    require_of_tiles(shapes.start_row == 0, "the first row must be 0");
    for (uint8_t byte : shapes.reserved) require_of_tiles(byte == 0, "reserved bytes must be 0");
    for (int tile = 0; tile < 8; ++tile) {
        const int rows = shapes.rows[tile], row_bytes = shapes.row_bytes[tile];
        require_of_tiles(shapes.unused_rows[tile] == 0 && shapes.unused_bytes[tile] == 0, "there are but eight tiles");
        require_of_tiles(rows <= kTileSide, "a tile must have at most 16 rows");
        require_of_tiles(row_bytes <= 4 * kTileSide && row_bytes % 4 == 0, "a row must have at most 64 bytes, of whole floats");
        require_of_tiles((rows == 0) == (row_bytes == 0), "a tile without rows must have no bytes, and the reverse");
        tile_state.tiles[tile] = TileRegister{rows, row_bytes, {}};
    }
    tile_state.configured = true;
}

static inline void release_tiles() {
    require_of_tiles(tile_state.configured, "registers must be configured before they are released");
    tile_state = TileState{};
}

template <int kTile>
static TileRegister& tile_register() {
    static_assert(kTile >= 0 && kTile < 8, "there are eight tiles");
    require_of_tiles(tile_state.configured, "registers must be configured before they are used");
    require_of_tiles(tile_state.tiles[kTile].rows > 0, "a tile must have been given a shape");
    return tile_state.tiles[kTile];
}

template <int kTile>
static void load_tile(const void* from, int64_t stride) {
    TileRegister& tile = tile_register<kTile>();
    for (int row = 0; row < kTileSide; ++row) {
        for (uint32_t& element : tile.data[row]) element = 0;
        if (row < tile.rows)
            __builtin_memcpy(tile.data[row], static_cast<const char*>(from) + row * stride,
                             static_cast<size_t>(tile.row_bytes));
    }
}

template <int kTile>
static void store_tile(void* to, int64_t stride) {
    const TileRegister& tile = tile_register<kTile>();
    for (int row = 0; row < tile.rows; ++row)
        __builtin_memcpy(static_cast<char*>(to) + row * stride, tile.data[row], static_cast<size_t>(tile.row_bytes));
}

template <int kTile>
static void zero_tile() {
    for (auto& row : tile_register<kTile>().data)
        for (uint32_t& element : row) element = 0;
}

// A product of two bfloat16 is exact in float32, so that it makes no difference whether it is added in one step, but where
// the product itself is denormal.
template <int kSum, int kLeft, int kRight>
static void add_tile_product() {
    static_assert(kSum != kLeft && kSum != kRight && kLeft != kRight, "the three tiles of a product must differ");
    TileRegister& sum = tile_register<kSum>();
    const TileRegister &left = tile_register<kLeft>(), &right = tile_register<kRight>();
    require_of_tiles(left.rows == sum.rows, "the left tile must have the rows of the sums");
    require_of_tiles(right.row_bytes == sum.row_bytes, "the right tile must have the columns of the sums");
    require_of_tiles(left.row_bytes / 4 == right.rows, "the left tile must have a pair for each row of the right one");
    for (int row = 0; row < sum.rows; ++row) {
        Vec even{}, odd{};
        for (int at = 0; at < right.rows; ++at) {
            const Unpacked one(all_bits(left.data[row][at])), other(load_bits(right.data[at]));
            even = flushed(even + one.even * other.even);
            odd = flushed(odd + one.odd * other.odd);
        }
        store_bits(sum.data[row], (Bits)flushed(flushed((Vec)load_bits(sum.data[row])) + flushed(even + odd)));
    }
}

}  // namespace regard::REGARD_ISA
