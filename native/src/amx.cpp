// Whether the matrix units may be used: the processor has them, the operating system keeps their registers, and this
// process has its permission. Compiled for any processor, unlike the kernels.
#include "amx.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace regard {
namespace {

constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;         // of CPUID(7, 0).EDX
constexpr unsigned kOsXsave = 1u << 27;                        // of CPUID(1).ECX
constexpr unsigned kTileState = 1u << 17 | 1u << 18;           // of XCR0: configuration and data
constexpr long kGetPermission = 0x1022, kAskPermission = 0x1023;  // of arch_prctl, since Linux 5.16
constexpr unsigned long kTileData = 18;                        // the number of the data's part of the state

bool processor_has_them() {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kBf16) == 0 || (d & kTile) == 0) return false;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & kOsXsave) == 0) return false;
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & kTileState) == kTileState;
}

// Linux gives the data of tiles, 8 kB a thread, to those alone who ask; what it gives holds for all threads.
bool permission() {
    unsigned long given = 0;
    syscall(SYS_arch_prctl, kAskPermission, kTileData);
    return syscall(SYS_arch_prctl, kGetPermission, &given) == 0 && (given >> kTileData & 1) != 0;
}

}  // namespace

bool may_use_amx() {
    static int answer = 0;  // 0 before it was asked for; threads that ask at once find the same
    int known = __atomic_load_n(&answer, __ATOMIC_RELAXED);
    if (known == 0) {
        known = processor_has_them() && permission() ? 1 : 2;
        __atomic_store_n(&answer, known, __ATOMIC_RELAXED);
    }
    return known == 1;
}

}  // namespace regard
