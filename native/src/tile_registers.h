// The tile registers of the matrix units (AMX): eight of 16 rows of 64 bytes, held by one thread at a time.
//
// The instructions are written out, since GCC's intrinsics tell the compiler neither that a load reads memory nor how
// much of it a configuration is: it could move or drop the stores before them.
#pragma once
#include "simd.h"

namespace regard::REGARD_ISA {

constexpr int kTileSide = 16;  // rows of a tile, and its 32-bit columns

// What LDTILECFG reads.
struct alignas(64) TileShapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[8], unused_bytes[8];
    uint8_t rows[8], unused_rows[8];
};
static_assert(sizeof(TileShapes) == 64, "a configuration is 64 bytes");

}  // namespace regard::REGARD_ISA

#if defined(REGARD_EMULATE_TILES)
#include "../emulate/tile_registers.h"
#else
namespace regard::REGARD_ISA {

REGARD_INLINE void configure_tiles(const TileShapes& shapes) { __asm__ volatile("ldtilecfg %0" ::"m"(shapes)); }
REGARD_INLINE void release_tiles() { __asm__ volatile("tilerelease" ::: "memory"); }

template <int kTile>
REGARD_INLINE void load_tile(const void* from, int64_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(kTile) : "memory");
}

template <int kTile>
REGARD_INLINE void store_tile(void* to, int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(kTile) : "memory");
}

template <int kTile>
REGARD_INLINE void zero_tile() {
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(kTile));
}

// Add to each float of `kSum` the products of pairs of bfloat16: rows of `kLeft` with columns of `kRight`.
template <int kSum, int kLeft, int kRight>
REGARD_INLINE void add_tile_product() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kLeft), "i"(kRight));
}

}  // namespace regard::REGARD_ISA
#endif

namespace regard::REGARD_ISA {

// The registers of a thread, whole tiles all, from here to the end of the scope. Only then may tiles be used; released,
// they cost a switch of threads nothing.
class TileRegisters {
  public:
    TileRegisters() {
        TileShapes shapes = {};
        shapes.palette = 1;
        for (int tile = 0; tile < 8; ++tile) {
            shapes.rows[tile] = kTileSide;
            shapes.row_bytes[tile] = 4 * kTileSide;
        }
        configure_tiles(shapes);
    }
    ~TileRegisters() { release_tiles(); }
    TileRegisters(const TileRegisters&) = delete;
    TileRegisters& operator=(const TileRegisters&) = delete;
};

}  // namespace regard::REGARD_ISA
