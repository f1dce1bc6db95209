// Products on emulated tiles against plain sums, and mistakes that the emulation has to refuse.
//
//   check             compare products of every shape, and see that nothing beside them is written
//   check MISTAKE     make one mistake on purpose, one of those in `make_mistake`
#include <cstdio>
#include <cstring>
#include <initializer_list>

#include "../src/product.h"

using namespace regard::REGARD_ISA;

namespace {

constexpr int64_t kMostRows = 144, kMostColumns = 160, kMostDepth = 50;
constexpr int64_t kLda = kMostDepth + 3, kLdc = kMostColumns + 5;
constexpr float kUntouched = -77.0f;

uint32_t a[kMostRows * kLda], b[kMostDepth * kMostColumns + kMostColumns * kMostDepth];
float c[kMostRows * kLdc];

uint32_t random_bits() {
    static uint32_t state = 7;
    state ^= state << 13;
    state ^= state >> 17;
    return state ^= state << 5;
}

// Two small whole numbers: their products and sums are exact whatever the order.
uint32_t random_pair() {
    uint32_t pair = 0;
    for (int half = 0; half < 2; ++half) {
        const float value = static_cast<float>(static_cast<int>(random_bits() % 17) - 8);
        uint32_t bits;
        std::memcpy(&bits, &value, 4);
        pair |= (bits >> 16) << (16 * half);
    }
    return pair;
}

float number(uint32_t pair, int half) {
    const uint32_t bits = half ? pair & 0xffff0000u : pair << 16;
    float found;
    std::memcpy(&found, &bits, 4);
    return found;
}

int differing(int64_t rows, int64_t columns, int64_t depth, bool panels, bool accumulate) {
    const int64_t ldb = panels ? kPanel : columns, next = panels ? depth * kPanel : kPanel;
    for (uint32_t& pair : a) pair = random_pair();
    for (uint32_t& pair : b) pair = random_pair();
    for (float& value : c) value = kUntouched;
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t column = 0; column < columns; ++column) c[row * kLdc + column] = accumulate ? 3.0f : kUntouched;
    product<Pairs>(a, kLda, 1, b, ldb, next, rows, columns, depth, c, kLdc, accumulate);
    for (int64_t row = 0; row < kMostRows; ++row) {
        for (int64_t column = 0; column < kLdc; ++column) {
            if (row >= rows && row < rounded_up(rows, kTileSide) && column < columns) continue;  // as it may be
            float expected = kUntouched;
            if (row < rows && column < columns) {
                expected = accumulate ? 3.0f : 0.0f;
                for (int64_t at = 0; at < depth; ++at)
                    for (int half = 0; half < 2; ++half)
                        expected += number(a[row * kLda + at], half) *
                                    number(b[column / kPanel * next + at * ldb + column % kPanel], half);
            }
            if (c[row * kLdc + column] != expected) {
                std::printf("%d x %d, depth %d%s%s: %g at %d, %d, expected %g\n", int(rows), int(columns), int(depth),
                            panels ? ", panels" : "", accumulate ? ", added" : "", double(c[row * kLdc + column]),
                            int(row), int(column), double(expected));
                return 1;
            }
        }
    }
    return 0;
}

int compare_products() {
    const TileRegisters registers;
    int wrong = 0, products = 0;
    for (int64_t rows : {1, 4, 5, 15, 16, 17, 32, 33, 60, 64, 65, 97, 129})
        for (int64_t columns : {16, 32, 48, 64, 80, 144})
            for (int64_t depth : {1, 2, 15, 16, 17, 31, 32, 40, 48}) {
                wrong += differing(rows, columns, depth, products & 1, products & 2);
                ++products;
            }
    std::printf("%d of %d products differ.\n", wrong, products);
    return wrong != 0;
}

TileShapes shapes() {
    TileShapes found = {};
    found.palette = 1;
    for (int tile = 0; tile < 8; ++tile) {
        found.rows[tile] = 16;
        found.row_bytes[tile] = 64;
    }
    return found;
}

void make_mistake(const char* name) {
    const auto is = [name](const char* other) { return std::strcmp(name, other) == 0; };
    TileShapes given = shapes();
    if (is("unconfigured")) load_tile<0>(a, 64);
    if (is("unreleased")) configure_tiles(given);
    if (is("released twice")) release_tiles();
    if (is("palette")) given.palette = 2;
    if (is("rows")) given.rows[3] = 17;
    if (is("bytes")) given.row_bytes[3] = 68;
    if (is("reserved")) given.unused_rows[0] = 1;
    if (is("shapeless")) given.rows[1] = given.row_bytes[1] = 0;
    if (is("depth")) given.rows[2] = 8;
    configure_tiles(given);
    zero_tile<1>();
    add_tile_product<0, 1, 2>();
}

}  // namespace

int main(int count, char** arguments) {
    if (count == 1) return compare_products();
    make_mistake(arguments[1]);
    return 0;
}
