// The functions that the library offers, and the choice of the instruction set at run time.
#include <cstring>

#include "kernels.h"

namespace regard {

// REGARD_SETS lists the instruction sets: each one has what those after it have, the last runs everywhere.
#define SET(name)                 \
    namespace name {              \
    extern const Kernels kernels; \
    }
REGARD_SETS
#undef SET

namespace {

#define SET(name) &name::kernels,
const Kernels* const kAll[] = {REGARD_SETS};
#undef SET

// Whether a product of bfloat16 pairs takes the time of two products of floats, so that pairs win nothing and their
// rounding costs: Intel's processors run it on one port, where AMD's run it on both.
bool pairs_are_slow() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_is("intel");
#else
    return false;
#endif
}

// The instruction sets of this processor, the fastest first.
const Kernels* supported(int index) {
    const Kernels* last = nullptr;
    for (const Kernels* kernels : kAll) {
        if (!kernels->supported()) continue;
        if (std::strcmp(kernels->name, "avx512_bf16") == 0 && pairs_are_slow()) {
            last = kernels;  // goes after the set that it extends
            continue;
        }
        if (index-- == 0) return kernels;
        if (last && index-- == 0) return last;
        last = nullptr;
    }
    return nullptr;
}

const Kernels* find(const char* name) {
    for (const Kernels* kernels : kAll)
        if (std::strcmp(kernels->name, name) == 0) return kernels->supported() ? kernels : nullptr;
    return nullptr;
}

// Rows up to which a call spends its time on reading what they are multiplied with, such as keys or a weight.
constexpr int64_t kFewRows = 16;

// What runs `rows` rows of a type fastest: what is read once is read as it is, in pairs even where those are slow.
const Kernels* fastest(int64_t dtype, int64_t rows) {
    const Kernels* const pairs = dtype == kBFloat16 && rows <= kFewRows ? find("avx512_bf16") : nullptr;
    return pairs && pairs_are_slow() ? pairs : supported(0);
}

const Kernels* fastest(const Call& call) {
    return fastest(call.query.dtype, call.kv_heads ? call.q_len * (call.heads / call.kv_heads) : 0);
}

const Kernels* fastest(const LinearCall& call) { return fastest(call.dtype, call.rows); }

// 0: done; 1: the structure has another size; 2: this processor or library has no such instruction set.
template <class Arguments>
int run(void (*Kernels::*kernel)(const Arguments&), const Arguments* call, const char* isa) {
    if (call->size != static_cast<int64_t>(sizeof(Arguments))) return 1;
    const Kernels* const kernels = isa ? find(isa) : fastest(*call);
    if (!kernels) return 2;
    (kernels->*kernel)(*call);
    return 0;
}

}  // namespace
}  // namespace regard

extern "C" {

// The instruction set number `index` that this processor has, the fastest first; null past the last.
__attribute__((visibility("default"))) const char* regard_isa(int index) {
    const regard::Kernels* const kernels = regard::supported(index);
    return kernels ? kernels->name : nullptr;
}

// Each runs with the instruction set that `isa` names, with the fastest one where it is null.
__attribute__((visibility("default"))) int regard_forward(const regard::Call* call, const char* isa) {
    return regard::run(&regard::Kernels::forward, call, isa);
}

__attribute__((visibility("default"))) int regard_backward(const regard::Call* call, const char* isa) {
    return regard::run(&regard::Kernels::backward, call, isa);
}

__attribute__((visibility("default"))) int regard_columns(const regard::Call* call, const char* isa) {
    return regard::run(&regard::Kernels::columns, call, isa);
}

__attribute__((visibility("default"))) int regard_linear(const regard::LinearCall* call, const char* isa) {
    return regard::run(&regard::Kernels::linear, call, isa);
}
}
