// Copies of rows into the order in which products read them. Padding of widths is 0, so that it adds nothing.
#pragma once
#include "call.h"
#include "product.h"

namespace regard::REGARD_ISA {

REGARD_INLINE float from_bfloat16(uint16_t value) {
    const uint32_t bits = static_cast<uint32_t>(value) << 16;
    float found;
    __builtin_memcpy(&found, &bits, 4);
    return found;
}

// Rounds to the nearest, ties to even; a NaN stays one.
REGARD_INLINE uint16_t to_bfloat16(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
    return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

REGARD_INLINE const char* row_of(const void* data, int64_t dtype, int64_t element) {
    return static_cast<const char*>(data) + element * (dtype == kFloat32 ? 4 : 2);
}

// Read `count` numbers of any type as float.
static inline void read_floats(const void* from, int64_t dtype, int64_t count, float* __restrict__ to) {
    if (dtype == kFloat32) {
        __builtin_memcpy(to, from, static_cast<size_t>(count) * 4);
    } else if (dtype == kBFloat16) {
        const uint16_t* source = static_cast<const uint16_t*>(from);
        for (int64_t at = 0; at < count; ++at) to[at] = from_bfloat16(source[at]);
    } else {
        const _Float16* source = static_cast<const _Float16*>(from);
        for (int64_t at = 0; at < count; ++at) to[at] = static_cast<float>(source[at]);
    }
}

static inline void write_floats(const float* __restrict__ from, int64_t dtype, int64_t count, void* to) {
    if (dtype == kFloat32) {
        __builtin_memcpy(to, from, static_cast<size_t>(count) * 4);
    } else if (dtype == kBFloat16) {
        uint16_t* target = static_cast<uint16_t*>(to);
        for (int64_t at = 0; at < count; ++at) target[at] = to_bfloat16(from[at]);
    } else {
        _Float16* target = static_cast<_Float16*>(to);
        for (int64_t at = 0; at < count; ++at) target[at] = static_cast<_Float16>(from[at]);
    }
}

// Read a row as elements of the arithmetic, `padded` of them.
REGARD_INLINE void read_row(Floats, const void* from, int64_t dtype, int64_t count, int64_t padded, float* to) {
    read_floats(from, dtype, count, to);
    for (int64_t at = count; at < padded; ++at) to[at] = 0.0f;
}

#if defined(__AVX512BF16__)
REGARD_INLINE void read_row(Pairs, const void* from, int64_t, int64_t count, int64_t padded, uint32_t* to) {
    uint16_t* target = reinterpret_cast<uint16_t*>(to);
    __builtin_memcpy(target, from, static_cast<size_t>(count) * 2);
    for (int64_t at = count; at < 2 * padded; ++at) target[at] = 0;
}
#endif

// Turn kWidth rows of kWidth 32-bit numbers into columns, in place.
REGARD_INLINE void transpose_square(Bits* rows) {
    for (int step = 1; step < kWidth; step *= 2) {
        for (int row = 0; row < kWidth; ++row) {
            if (row & step) continue;
            const Bits upper = rows[row], lower = rows[row + step];
            Bits first, second;
            Ints take_first, take_second;
            for (int lane = 0; lane < kWidth; ++lane) {
                take_first[lane] = lane & step ? kWidth + (lane ^ step) : lane;
                take_second[lane] = lane & step ? kWidth + lane : lane ^ step;
            }
            first = __builtin_shuffle(upper, lower, take_first);
            second = __builtin_shuffle(upper, lower, take_second);
            rows[row] = first;
            rows[row + step] = second;
        }
    }
}

// Rows (count × depth elements, `ld` apart) become a panel: depth rows of kPanel columns. Columns past `count` become 0.
template <class Element>
static void transpose_panel(const Element* from, int64_t ld, int64_t count, int64_t depth, Element* to) {
    static_assert(sizeof(Element) == 4, "an element is 32 bits");
    const int64_t whole_depth = depth / kWidth * kWidth;
    int64_t column = 0;
    for (; column + kWidth <= count; column += kWidth) {
        const Element* rows = from + column * ld;
        for (int64_t at = 0; at < whole_depth; at += kWidth) {
            Bits square[kWidth];
#pragma GCC unroll 16
            for (int row = 0; row < kWidth; ++row) square[row] = load_bits(rows + row * ld + at);
            transpose_square(square);
#pragma GCC unroll 16
            for (int row = 0; row < kWidth; ++row) store_bits(to + (at + row) * kPanel + column, square[row]);
        }
        for (int64_t at = whole_depth; at < depth; ++at)
            for (int row = 0; row < kWidth; ++row) to[at * kPanel + column + row] = rows[row * ld + at];
    }
    for (int64_t at = 0; at < depth; ++at) {
        for (int64_t rest = column; rest < count; ++rest) to[at * kPanel + rest] = from[rest * ld + at];
        for (int64_t rest = most(column, count); rest < kPanel; ++rest) to[at * kPanel + rest] = 0;
    }
}

// Where the rows of one head of one sequence lie.
struct Rows {
    const void* data;
    int64_t dtype, stride, count, width;

    const char* row(int64_t index) const { return row_of(data, dtype, index * stride); }
};

// Read rows first … first + count as elements, `padded` each; rows past the last are 0.
template <class Arithmetic>
static void read_rows(const Rows& rows, int64_t first, int64_t count, int64_t padded,
                      typename Arithmetic::Element* to) {
    for (int64_t at = 0; at < count; ++at, to += padded) {
        if (first + at < rows.count) {
            read_row(Arithmetic{}, rows.row(first + at), rows.dtype, rows.width, padded, to);
        } else {
            for (int64_t column = 0; column < padded; ++column) to[column] = 0;
        }
    }
}

// Rows first … first + count become panels of kPanel columns, one after the other: the second factor of a product that
// sums over their width. `scratch` holds kPanel · padded elements.
template <class Arithmetic>
static void pack_transposed(const Rows& rows, int64_t first, int64_t count, int64_t padded,
                            typename Arithmetic::Element* scratch, typename Arithmetic::Element* to) {
    typedef typename Arithmetic::Element Element;
    for (int64_t at = 0; at < count; at += kPanel, to += padded * kPanel) {
        const int64_t here = least(kPanel, least(count - at, rows.count - first - at));
        const bool in_place = rows.width == padded * Arithmetic::kPerElement && here > 0 &&
                              (rows.dtype == kFloat32) == (Arithmetic::kPerElement == 1) &&
                              rows.stride % Arithmetic::kPerElement == 0 &&
                              reinterpret_cast<uintptr_t>(rows.row(first + at)) % sizeof(Element) == 0;
        if (in_place) {
            transpose_panel(reinterpret_cast<const Element*>(rows.row(first + at)),
                            rows.stride / Arithmetic::kPerElement, here, padded, to);
        } else {
            read_rows<Arithmetic>(rows, first + at, most(here, 0), padded, scratch);
            transpose_panel(scratch, padded, most(here, 0), padded, to);
        }
    }
}

// Rows become the second factor of a product that sums over the rows: `columns` (whole vectors) each, for pairs two
// rows interleaved.
REGARD_INLINE void pack_summed(Floats, const Rows& rows, int64_t first, int64_t count, int64_t columns, float* to) {
    read_rows<Floats>(rows, first, count, columns, to);
}

#if defined(__AVX512BF16__)
REGARD_INLINE void pack_summed(Pairs, const Rows& rows, int64_t first, int64_t count, int64_t columns,
                               uint32_t* to) {
    for (int64_t at = 0; at < count; at += 2, to += columns) {
        const uint16_t* even = reinterpret_cast<const uint16_t*>(rows.row(first + at));
        const uint16_t* odd = reinterpret_cast<const uint16_t*>(rows.row(first + at + 1));
        const bool has_even = first + at < rows.count, has_odd = at + 1 < count && first + at + 1 < rows.count;
        int64_t column = 0;
        if (has_even && has_odd)
            for (; column < rows.width; ++column) to[column] = even[column] | static_cast<uint32_t>(odd[column]) << 16;
        else if (has_even)
            for (; column < rows.width; ++column) to[column] = even[column];
        for (; column < columns; ++column) to[column] = 0;
    }
}
#endif

// The rows themselves where they can be read as that factor without a copy, else null.
template <class Arithmetic>
static const typename Arithmetic::Element* summed_in_place(const Rows& rows, int64_t columns) {
    if (Arithmetic::kPerElement != 1 || rows.dtype != kFloat32 || rows.width != columns) return nullptr;
    return static_cast<const typename Arithmetic::Element*>(rows.data);
}

}  // namespace regard::REGARD_ISA
