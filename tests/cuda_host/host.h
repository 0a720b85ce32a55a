// CUDA's language on the CPU: what the kernels use of it, so that g++ compiles the same sources.
//
// The threads of a block are fibers of one operating system thread. A fiber runs until a barrier, a shuffle or,
// now and then, an atomic; the order in which they run is drawn anew at each of these, from the launch's seed:
// a missing barrier shows as a wrong result. Blocks follow one another, but for those that wait for others, of which
// some run at the same time. Shared memory is poisoned before and after each block and watched
// beyond its end; a barrier or shuffle that some threads miss, a wait for what never comes, and misaligned access
// end the launch with a message.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __shared__
#define __grid_constant__
#define __restrict__
#define __launch_bounds__(threads, blocks)
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))

struct alignas(16) uint4 { unsigned x, y, z, w; };
struct uint3 { unsigned x, y, z; };
extern uint3 threadIdx, blockIdx, blockDim, gridDim;
constexpr unsigned SHARED_MOST = 232448;  // bytes a block can have on sm_90
extern uint4* shared_memory;  // of the running block: the kernels' own declaration is taken out

// host.cpp has the fibers.
namespace host {
enum State { READY, AT_BARRIER, AT_SHUFFLE, DONE };
extern uint64_t seed;  // of the launch; 0: threads and blocks in order
void pause(State state);
uint64_t at_barrier(uint64_t value);
uint64_t shuffle(unsigned mask, uint64_t value, unsigned from);
void sleep();
using Call = void (*)(void (*kernel)(), void** arguments);
// shape: grid x y z, threads, shared bytes, seed, blocks that run at the same time. Returns what went wrong.
const char* launch(const unsigned* shape, Call call, void (*kernel)(), void** arguments);

inline unsigned draw(unsigned below) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<unsigned>((seed >> 33) % below);
}
inline void maybe_pause() {
    if (seed && draw(64) == 0) pause(READY);
}
template <class... A, size_t... I>
void call_kernel(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_cv_t<A>*>(arguments[I])...);
}
template <class... A>
const char* launch_kernel(void (*kernel)(A...), const unsigned* shape, void** arguments, unsigned count) {
    if (count != sizeof...(A)) return "a launch with too few or too many arguments";
    const Call call = [](void (*kernel)(), void** arguments) {
        call_kernel(reinterpret_cast<void (*)(A...)>(kernel), arguments, std::index_sequence_for<A...>());
    };
    return launch(shape, call, reinterpret_cast<void (*)()>(kernel), arguments);
}
}  // namespace host

static inline void __syncthreads() { host::at_barrier(0); }
static inline int __syncthreads_or(int predicate) { return host::at_barrier(predicate) != 0; }
static inline void __threadfence() {}
static inline void __nanosleep(unsigned) { host::sleep(); }
template <class T>
static inline T __shfl_sync(unsigned mask, T value, unsigned lane) {
    return static_cast<T>(host::shuffle(mask, static_cast<uint64_t>(value), lane % 32));
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, unsigned bits) {
    return __shfl_sync(mask, value, threadIdx.x % 32 ^ bits);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned distance) {
    const unsigned lane = threadIdx.x % 32;
    return __shfl_sync(mask, value, lane < distance ? lane : lane - distance);
}
template <class T>
static inline T exchange(T* at, T value) {
    const T old = *at;
    *at = value;
    host::maybe_pause();
    return old;
}
template <class T>
static inline T atomicAdd(T* at, std::common_type_t<T> value) { return exchange<T>(at, *at + value); }
template <class T>
static inline T atomicMax(T* at, std::common_type_t<T> value) { return exchange<T>(at, *at < value ? value : *at); }
static inline unsigned atomicInc(unsigned* at, unsigned top) { return exchange(at, *at >= top ? 0u : *at + 1); }

template <class A, class B>
static constexpr auto min(A a, B b) { return b < a ? b : a; }
template <class A, class B>
static constexpr auto max(A a, B b) { return a < b ? b : a; }
static inline size_t __cvta_generic_to_shared(const void* place) {
    return static_cast<const char*>(place) - reinterpret_cast<const char*>(shared_memory);
}
static inline void* __cvta_shared_to_generic(size_t at) { return reinterpret_cast<char*>(shared_memory) + at; }
template <class T>
static inline T __ldg(const T* at) { return *at; }
template <class T>
static inline T __ldcg(const T* at) { return *at; }
template <class T>
static inline T __ldcs(const T* at) { return *at; }
template <class T>
static inline void __stcs(T* at, T value) { *at = value; }

static inline unsigned __byte_perm(unsigned low, unsigned high, unsigned which) {
    const uint64_t bytes = static_cast<uint64_t>(high) << 32 | low;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i)
        result |= static_cast<unsigned>(bytes >> (which >> (4 * i) & 7) * 8 & 255) << (8 * i);
    return result;
}

static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline float __ll2float_rn(long long value) { return static_cast<float>(value); }
static inline double __ll2double_rn(long long value) { return static_cast<double>(value); }
static inline float __double2float_rn(double value) { return static_cast<float>(value); }
static inline float __int2float_rn(int value) { return static_cast<float>(value); }
static inline int __float2int_rn(float value) { return static_cast<int>(lrintf(value)); }
static inline int __float2int_rd(float value) { return static_cast<int>(floorf(value)); }
static inline long long __float2ll_rn(float value) { return llrintf(value); }
static inline long long __float2ll_rd(float value) { return static_cast<long long>(floorf(value)); }
static inline long long __double2ll_rn(double value) { return llrint(value); }
static inline long long __double2ll_rz(double value) { return static_cast<long long>(value); }
template <class To, class From>
static inline To bits_as(From value) {
    To result;
    static_assert(sizeof result == sizeof value, "");
    memcpy(&result, &value, sizeof result);
    return result;
}
static inline double __longlong_as_double(long long bits) { return bits_as<double>(bits); }
static inline long long __double_as_longlong(double value) { return bits_as<long long>(value); }
static inline unsigned __float_as_uint(float value) { return bits_as<unsigned>(value); }
static inline float __uint_as_float(unsigned bits) { return bits_as<float>(bits); }
