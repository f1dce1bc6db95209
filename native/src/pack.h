// Copies of rows into the order in which products read them. Padding of widths is 0, so that it adds nothing.
#pragma once
#include "call.h"
#include "product.h"

namespace regard::REGARD_ISA {

constexpr int64_t kFewReads = 4;

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

// Read kWidth numbers of any type.
REGARD_INLINE Vec load_as_floats(const char* from, int64_t dtype) {
    typedef uint16_t Halves __attribute__((vector_size(kWidth * 2)));
    typedef _Float16 Float16s __attribute__((vector_size(kWidth * 2)));
    if (dtype == kFloat32) return load(reinterpret_cast<const float*>(from));
    Halves halves;
    __builtin_memcpy(&halves, from, sizeof(halves));
    if (dtype == kBFloat16) return (Vec)(__builtin_convertvector(halves, Bits) << 16);
    return __builtin_convertvector((Float16s)halves, Vec);
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

#if defined(REGARD_PAIRS)
REGARD_INLINE void read_row(Pairs, const void* from, int64_t, int64_t count, int64_t padded, uint32_t* to) {
    uint16_t* target = reinterpret_cast<uint16_t*>(to);
    __builtin_memcpy(target, from, static_cast<size_t>(count) * 2);
    for (int64_t at = count; at < 2 * padded; ++at) target[at] = 0;
}
#endif

// Turn kWidth rows of kWidth 32-bit numbers into columns, in place.
#if defined(__AVX512F__)
REGARD_INLINE void transpose_square(Bits* rows) {
    __m512i from[16], to[16];
#pragma GCC unroll 8
    for (int row = 0; row < 16; row += 2) {
        to[row] = _mm512_unpacklo_epi32((__m512i)rows[row], (__m512i)rows[row + 1]);
        to[row + 1] = _mm512_unpackhi_epi32((__m512i)rows[row], (__m512i)rows[row + 1]);
    }
#pragma GCC unroll 4
    for (int row = 0; row < 16; row += 4) {  // from[row + c]: column c of each quarter, of rows row … row + 3
        from[row] = _mm512_unpacklo_epi64(to[row], to[row + 2]);
        from[row + 1] = _mm512_unpackhi_epi64(to[row], to[row + 2]);
        from[row + 2] = _mm512_unpacklo_epi64(to[row + 1], to[row + 3]);
        from[row + 3] = _mm512_unpackhi_epi64(to[row + 1], to[row + 3]);
    }
#pragma GCC unroll 4
    for (int column = 0; column < 4; ++column) {
        to[column] = _mm512_shuffle_i32x4(from[column], from[column + 4], 0x88);  // quarters 0 and 2 of both
        to[column + 4] = _mm512_shuffle_i32x4(from[column], from[column + 4], 0xdd);
        to[column + 8] = _mm512_shuffle_i32x4(from[column + 8], from[column + 12], 0x88);
        to[column + 12] = _mm512_shuffle_i32x4(from[column + 8], from[column + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int column = 0; column < 4; ++column) {
        rows[column] = (Bits)_mm512_shuffle_i32x4(to[column], to[column + 8], 0x88);
        rows[column + 8] = (Bits)_mm512_shuffle_i32x4(to[column], to[column + 8], 0xdd);
        rows[column + 4] = (Bits)_mm512_shuffle_i32x4(to[column + 4], to[column + 12], 0x88);
        rows[column + 12] = (Bits)_mm512_shuffle_i32x4(to[column + 4], to[column + 12], 0xdd);
    }
}
#else
REGARD_INLINE void transpose_square(Bits* rows) {
#pragma GCC unroll 4
    for (int step = 1; step < kWidth; step *= 2) {
#pragma GCC unroll 16
        for (int row = 0; row < kWidth; ++row) {
            if (row & step) continue;
            const Bits upper = rows[row], lower = rows[row + step];
            Ints take_first, take_second;
#pragma GCC unroll 16
            for (int lane = 0; lane < kWidth; ++lane) {
                take_first[lane] = lane & step ? kWidth + (lane ^ step) : lane;
                take_second[lane] = lane & step ? kWidth + lane : lane ^ step;
            }
            rows[row] = __builtin_shuffle(upper, lower, take_first);
            rows[row + step] = __builtin_shuffle(upper, lower, take_second);
        }
    }
}
#endif

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

// The rows from `first` on as elements where they lie in memory as the arithmetic reads them, else null.
template <class Arithmetic>
static const typename Arithmetic::Element* rows_in_place(const Rows& rows, int64_t first) {
    typedef typename Arithmetic::Element Element;
    const char* const data = rows.row(first);
    const bool fits = (rows.dtype == kFloat32) == (Arithmetic::kPerElement == 1) && rows.dtype != kFloat16 &&
                      rows.width % Arithmetic::kPerElement == 0 && rows.stride % Arithmetic::kPerElement == 0 &&
                      reinterpret_cast<uintptr_t>(data) % sizeof(Element) == 0;
    return fits ? reinterpret_cast<const Element*>(data) : nullptr;
}

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
        const Element* const in_place = here > 0 ? rows_in_place<Arithmetic>(rows, first + at) : nullptr;
        if (in_place) {
            transpose_panel(in_place, rows.stride / Arithmetic::kPerElement, here, padded, to);
        } else {
            read_rows<Arithmetic>(rows, first + at, most(here, 0), padded, scratch);
            transpose_panel(scratch, padded, most(here, 0), padded, to);
        }
    }
}

// Scores of few queries: products of each with `count` keys that lie `ld` elements apart, `ldc` scores a query. Where a
// key is used so seldom, bringing it into the order of `product` costs more than summing over the lanes. `Vectors` is
// the depth, so that a query stays in registers; 0 for any depth.
template <class Arithmetic, int Vectors>
static void dots_of(const typename Arithmetic::Element* queries, int64_t rows, int64_t depth,
                    const typename Arithmetic::Element* keys, int64_t ld, int64_t count, float* scores, int64_t ldc) {
    const int64_t vectors = Vectors ? Vectors : depth / kWidth;
    for (int64_t first = 0; first < count; first += kWidth) {
        for (int64_t row = 0; row < rows; ++row) {
            Bits sums[kWidth];
#pragma GCC unroll 16
            for (int key = 0; key < kWidth; ++key) {
                const typename Arithmetic::Element* const from = keys + least(first + key, count - 1) * ld;
                Vec sum{};
#pragma GCC unroll 8
                for (int64_t at = 0; at < vectors; ++at)
                    sum = Arithmetic::multiply_add(sum, queries + row * depth + at * kWidth, from + at * kWidth);
                sums[key] = (Bits)sum;
            }
            transpose_square(sums);
            Vec total = (Vec)sums[0];
#pragma GCC unroll 16
            for (int lane = 1; lane < kWidth; ++lane) total += (Vec)sums[lane];
            store(scores + row * ldc + first, total);
        }
    }
}

template <class Arithmetic>
static void dots(const typename Arithmetic::Element* queries, int64_t rows, int64_t depth,
                 const typename Arithmetic::Element* keys, int64_t ld, int64_t count, float* scores, int64_t ldc) {
    switch (depth / kWidth) {
        case 2: return dots_of<Arithmetic, 2>(queries, rows, depth, keys, ld, count, scores, ldc);
        case 4: return dots_of<Arithmetic, 4>(queries, rows, depth, keys, ld, count, scores, ldc);
        case 8: return dots_of<Arithmetic, 8>(queries, rows, depth, keys, ld, count, scores, ldc);
        default: return dots_of<Arithmetic, 0>(queries, rows, depth, keys, ld, count, scores, ldc);
    }
}

// Rows become the second factor of a product that sums over the rows: `columns` (whole vectors) each, for pairs two
// rows interleaved.
REGARD_INLINE void pack_summed(Floats, const Rows& rows, int64_t first, int64_t count, int64_t columns, float* to) {
    read_rows<Floats>(rows, first, count, columns, to);
}

#if defined(REGARD_PAIRS)
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

// The rows themselves where they can be read as that factor without a copy, else null. Rows of a head that lie apart, as
// where heads are innermost, spread over many pages: where they are read more than a few times, a copy is faster.
template <class Arithmetic>
static const typename Arithmetic::Element* summed_in_place(const Rows& rows, int64_t columns, int64_t num_reads) {
    if (Arithmetic::kPerElement != 1 || rows.dtype != kFloat32 || rows.width != columns) return nullptr;
    if (rows.stride != columns && num_reads > kFewReads) return nullptr;
    return static_cast<const typename Arithmetic::Element*>(rows.data);
}

}  // namespace regard::REGARD_ISA
