// The kernels of one instruction set. This file is compiled once for each, under the namespace REGARD_ISA.
#include "kernels.h"

#include "amx.h"
#include "backward.h"
#include "columns.h"
#include "forward_driver.h"
#include "linear.h"

namespace regard::REGARD_ISA {

static bool supported() {
#if defined(REGARD_EMULATE_TILES)
    return true;
#elif defined(__AVX512BF16__)
#if defined(REGARD_TILES)
    if (!may_use_amx()) return false;
#endif
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bf16");
#elif defined(__AVX512F__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
#elif defined(__AVX2__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return true;
#endif
}

// Products of bfloat16 run on pairs where there is an instruction; every other type becomes float32 on the way.
template <template <class> class Work>
static void run(const Call& call) {
#if defined(REGARD_PAIRS)
    if (call.query.dtype == kBFloat16) return Work<Pairs>(call).run();
#endif
    Work<Floats>(call).run();
}

#define REGARD_STRING_OF(name) #name
#define REGARD_STRING(name) REGARD_STRING_OF(name)

extern const Kernels kernels{REGARD_STRING(REGARD_ISA), supported,  run<Forward>, run<Backward>,
                             run<Columns>,              run_linear};

}  // namespace regard::REGARD_ISA
