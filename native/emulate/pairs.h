// Pairs of bfloat16 without the instructions for them, for tests: VDPBF16PS and VCVTNE2PS2BF16 in plain vectors.
#pragma once
#include "../src/simd.h"

namespace regard::REGARD_ISA {

// As the instructions do, denormal numbers are 0, of the same sign.
REGARD_INLINE Vec flushed(Vec value) {
    const Bits kept = (Bits)(((Bits)value & 0x7f800000u) != 0u) | 0x80000000u;
    return (Vec)((Bits)value & kept);
}

// The two numbers of each pair.
struct Unpacked {
    Vec even, odd;
    explicit Unpacked(Bits pairs) : even(flushed((Vec)(pairs << 16))), odd(flushed((Vec)(pairs & 0xffff0000u))) {}
};

struct Pairs {
    typedef uint32_t Element;
    static constexpr int kPerElement = 2;

    // Not inlined: hundreds of copies, each of dozens of instructions, would take minutes to compile.
    __attribute__((noinline)) static Vec add(Vec sum, Bits left, Bits right) {
        const Unpacked one(left), other(right);
        return flushed(flushed(flushed(sum) + one.odd * other.odd) + one.even * other.even);
    }
    REGARD_INLINE Vec multiply_add(Vec sum, uint32_t left, const uint32_t* right) {
        return add(sum, all_bits(left), load_bits(right));
    }
    REGARD_INLINE Vec multiply_add(Vec sum, const uint32_t* left, const uint32_t* right) {
        return add(sum, load_bits(left), load_bits(right));
    }

    // Round a row of floats, whole vectors of them, to pairs.
    static void narrow(const float* from, int64_t count, uint32_t* to) {
        for (int64_t at = 0; at < count; at += 2) to[at / 2] = rounded(from[at]) | rounded(from[at + 1]) << 16;
    }

  private:
    // To the nearest, ties to even; a NaN stays one.
    static uint32_t rounded(float value) {
        uint32_t bits;
        __builtin_memcpy(&bits, &value, 4);
        if ((bits & 0x7f800000u) == 0) return bits >> 16 & 0x8000u;
        if ((bits & 0x7fffffffu) > 0x7f800000u) return bits >> 16 | 0x40u;
        return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    }
};

}  // namespace regard::REGARD_ISA
