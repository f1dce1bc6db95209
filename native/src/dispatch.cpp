// The functions that the library offers, and the choice of the instruction set at run time.
#include <cstring>

#include "kernels.h"

namespace regard {

// REGARD_SETS lists the instruction sets, from the most capable to the one that runs everywhere.
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

const Kernels* find(const char* name) {
    for (const Kernels* kernels : kAll)
        if (std::strcmp(kernels->name, name) == 0) return kernels->supported() ? kernels : nullptr;
    return nullptr;
}

// 0: done; 1: the structure has another size; 2: this processor or library has no such instruction set.
int run(void (*Kernels::*kernel)(const Call&), const Call* call, const char* isa) {
    if (call->size != static_cast<int64_t>(sizeof(Call))) return 1;
    const Kernels* const kernels = find(isa);
    if (!kernels) return 2;
    (kernels->*kernel)(*call);
    return 0;
}

}  // namespace
}  // namespace regard

extern "C" {

// The instruction set number `index` that this processor has, the most capable first; null past the last.
__attribute__((visibility("default"))) const char* regard_isa(int index) {
    for (const regard::Kernels* kernels : regard::kAll)
        if (kernels->supported() && index-- == 0) return kernels->name;
    return nullptr;
}

__attribute__((visibility("default"))) int regard_forward(const regard::Call* call, const char* isa) {
    return regard::run(&regard::Kernels::forward, call, isa);
}

__attribute__((visibility("default"))) int regard_backward(const regard::Call* call, const char* isa) {
    return regard::run(&regard::Kernels::backward, call, isa);
}

__attribute__((visibility("default"))) int regard_columns(const regard::Call* call, const char* isa) {
    return regard::run(&regard::Kernels::columns, call, isa);
}
}
