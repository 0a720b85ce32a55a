// CUDA's language on the CPU: what the kernels use of it, so that g++ compiles the same sources.
//
// The threads of a block are fibers of one operating system thread. A fiber runs until a barrier, a shuffle or,
// now and then, an atomic; the order in which they run is drawn anew at each of these, from the launch's seed:
// a missing barrier shows as a wrong result. Blocks follow one another, but for those of a cluster or of a
// cooperative launch, which run at the same time. Shared memory is poisoned before and after each block and watched
// beyond its end; a barrier or shuffle that some threads miss, a wait for what never comes, and misaligned access
// end the launch with a message.

#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__
#define __grid_constant__
#define __restrict__
#define __launch_bounds__(threads, blocks)
#define __cluster_dims__(x, y, z)
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))

struct alignas(16) uint4 { unsigned x, y, z, w; };
struct uint3 { unsigned x, y, z; };
static uint3 threadIdx, blockIdx, blockDim, gridDim;
constexpr unsigned SHARED_MOST = 232448;  // bytes a block can have on sm_90
static uint4* shared_memory;  // of the running block: the kernels' own declaration is taken out

namespace host {
enum State { READY, AT_BARRIER, AT_SHUFFLE, AT_CLUSTER, DONE };
// The compiler's own jumps save three registers and call nothing: most of the time goes into switching fibers.
using Place = void* [5];
struct Fiber {
    Place registers;
    State state;
    bool has_begun;
    uint64_t value;  // brought to a shuffle or a barrier
};
constexpr size_t STACK = 16384 + 192, MOST = 1024;  // no power of two: the stacks would share cache lines
static std::vector<Fiber> fibers;  // of all blocks that run at the same time, block by block
static std::vector<ucontext_t> starts;  // of the fibers
static std::vector<char*> stacks;
static std::vector<std::vector<uint4>> memories;  // shared, of these blocks
static size_t threads;                            // of a block
static unsigned first_block, sleeps;
static unsigned grid[3];
static Place scheduler;
static sigjmp_buf crash;
static Fiber* running;
static std::function<void()> kernel;
static const char* error;
static std::vector<uint64_t> snapshot;  // what the fibers brought to the latest rendezvous
static uint64_t seed;

static unsigned draw(unsigned below) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<unsigned>((seed >> 33) % below);
}
__attribute__((noinline)) static void to_scheduler() { __builtin_longjmp(scheduler, 1); }
__attribute__((noinline)) static void to_fiber() { __builtin_longjmp(running->registers, 1); }
__attribute__((noinline)) static void pause(State state) {
    running->state = state;
    if (!__builtin_setjmp(running->registers)) to_scheduler();
}
static void fail(const char* message) {
    error = message;
    to_scheduler();
}
static void body() {
    kernel();
    running->state = DONE;
    to_scheduler();
}
static void maybe_pause() {
    if (seed && draw(64) == 0) pause(READY);
}
static uint64_t at_barrier(uint64_t value) {
    running->value = value;
    pause(AT_BARRIER);
    return running->value;
}
static uint64_t shuffle(unsigned mask, uint64_t value, unsigned from) {
    if (mask != 0xffffffffu) fail("a shuffle names fewer than 32 lanes");
    running->value = value;
    pause(AT_SHUFFLE);
    return snapshot[(running - fibers.data()) / 32 * 32 + from];
}
static void sleep() {
    if (++sleeps > 200000) fail("some threads wait for what never comes");
    pause(READY);
}
// The same place in the shared memory of another block of the cluster.
static void* in_block(const void* place, unsigned block) {
    if (block >= memories.size()) fail("a cluster has no such block");
    const size_t offset = static_cast<const char*>(place) - reinterpret_cast<char*>(shared_memory);
    return reinterpret_cast<char*>(memories[block].data()) + offset;
}

static void release(size_t begin, size_t end, bool combine) {
    uint64_t any = 0;
    for (size_t i = begin; i < end; ++i) any |= snapshot[i] = fibers[i].value;
    for (size_t i = begin; i < end; ++i) {
        if (combine) fibers[i].value = any;
        fibers[i].state = READY;
    }
}
// Let a fiber run until it pauses; false: the launch failed.
__attribute__((noinline)) static bool resume(Fiber* fiber, unsigned thread) {
    running = fiber;
    threadIdx = {thread, 0, 0};
    if (!__builtin_setjmp(scheduler)) {
        if (running->has_begun) to_fiber();
        running->has_begun = true;
        setcontext(&starts[running - fibers.data()]);
    }
    return error == nullptr;
}
// What the fibers of a warp wait for, after those that are ready have run until they pause.
struct Waiting {
    size_t at_barrier, at_shuffle, at_cluster, done, resumed;
};
static Waiting run_warp(size_t warp) {
    const size_t first = warp * 32, block = first / threads, lanes = 32;
    const unsigned number = first_block + static_cast<unsigned>(block);
    blockIdx = {number % grid[0], number / grid[0] % grid[1], number / grid[0] / grid[1]};
    shared_memory = memories[block].data();
    const size_t steps[] = {1, lanes - 1, 5, lanes - 11};  // odd: each goes to every lane
    const size_t start = seed ? draw(lanes) : 0, step = seed ? steps[draw(4)] : 1;
    Waiting result = {};
    for (size_t n = 0; n < lanes; ++n) {
        const size_t lane = (start + n * step) % lanes;
        Fiber& fiber = fibers[first + lane];
        if (fiber.state == READY) {
            ++result.resumed;
            if (!resume(&fiber, static_cast<unsigned>(first % threads + lane))) break;
        }
        result.at_barrier += fiber.state == AT_BARRIER;
        result.at_shuffle += fiber.state == AT_SHUFFLE;
        result.at_cluster += fiber.state == AT_CLUSTER;
        result.done += fiber.state == DONE;
    }
    return result;
}
// Run the blocks from `first` on that there is memory for, all at the same time.
static bool run_blocks(unsigned first, unsigned shared) {
    const size_t blocks = memories.size(), all = threads * blocks, warps = all / 32;
    first_block = first;
    sleeps = 0;
    for (auto& memory : memories) memset(memory.data(), 0xA5, shared + 64);
    for (size_t i = 0; i < all; ++i) {
        fibers[i].state = READY;
        fibers[i].has_begun = false;
    }
    const size_t lagging = seed ? draw(blocks) : 0, lagging_warp = seed && draw(2) ? draw(warps) : warps;
    std::vector<Waiting> waiting(blocks);
    std::vector<bool> ended(blocks);
    size_t running_blocks = blocks;
    while (running_blocks > 0) {
        // Every round goes through the warps in another order.
        const size_t start = seed ? draw(warps) : 0, step = seed && draw(2) ? warps - 1 : 1;
        // One block lags behind the others, and now and then one warp.
        const size_t slow = seed && blocks > 1 && draw(8) ? lagging : blocks;
        const size_t slow_warp = lagging_warp < warps && draw(4) ? lagging_warp : warps;
        bool progress = slow < blocks || slow_warp < warps;
        std::fill(waiting.begin(), waiting.end(), Waiting{});
        for (size_t n = 0; n < warps; ++n) {
            const size_t warp = (start + n * step) % warps, block = warp * 32 / threads;
            if (ended[block] || block == slow || warp == slow_warp) continue;
            // A warp goes on through its shuffles for a while, so that its stacks are in the cache.
            Waiting now;
            do {
                now = run_warp(warp);
                if (error) return false;
                progress |= now.resumed > 0;
                if (now.at_shuffle == 32) release(warp * 32, warp * 32 + 32, false), progress = true;
            } while (now.at_shuffle == 32 && !(seed && draw(16) == 0));
            waiting[block].at_barrier += now.at_barrier;
            waiting[block].at_cluster += now.at_cluster;
            waiting[block].done += now.done;
        }
        size_t at_cluster = 0;
        for (size_t block = 0; block < blocks; ++block) {
            if (waiting[block].at_barrier == threads)
                release(block * threads, (block + 1) * threads, true), progress = true;
            if (waiting[block].done == threads) {
                char* const memory = reinterpret_cast<char*>(memories[block].data());
                for (unsigned i = shared; i < shared + 64; ++i)
                    if (memory[i] != static_cast<char>(0xA5)) return error = "a write beyond the shared memory", false;
                memset(memory, 0x5A, shared);
                ended[block] = true;
                --running_blocks;
            }
            at_cluster += waiting[block].at_cluster;
        }
        if (at_cluster == all) release(0, all, false), progress = true;
        if (!progress && running_blocks > 0)
            return error = "some threads wait at a barrier or shuffle that others miss", false;
    }
    return true;
}
static void make_fibers(unsigned blocks, unsigned shared) {
    for (size_t i = stacks.size(); i < threads * blocks; ++i) stacks.push_back(static_cast<char*>(malloc(STACK)));
    const size_t before = fibers.size();
    if (before < stacks.size()) {
        fibers.resize(stacks.size());
        starts.resize(stacks.size());
        snapshot.resize(stacks.size());
        for (size_t i = 0; i < fibers.size(); ++i) {  // all of them: the vector may have moved
            getcontext(&starts[i]);
            starts[i].uc_stack.ss_sp = stacks[i];
            starts[i].uc_stack.ss_size = STACK;
            starts[i].uc_link = nullptr;
            makecontext(&starts[i], body, 0);
        }
    }
    memories.resize(blocks);
    for (auto& memory : memories)
        if (memory.size() < shared / 16 + 8) memory.resize(shared / 16 + 8);
}

// shape: grid x y z, threads, shared bytes, seed (0: threads and blocks in order), blocks that run at the same time.
static const char* launch(const unsigned* shape, std::function<void()> run) {
    if (shape[3] % 32 || shape[3] > MOST || shape[4] > SHARED_MOST || shape[0] % shape[6])
        return "a launch of a shape that CUDA refuses";
    threads = shape[3];
    make_fibers(shape[6], shape[4]);
    kernel = std::move(run);
    error = nullptr;
    seed = shape[5];
    gridDim = {shape[0], shape[1], shape[2]};
    memcpy(grid, shape, sizeof grid);
    blockDim = {shape[3], 1, 1};
    const unsigned groups = shape[0] * shape[1] * shape[2] / shape[6];
    struct sigaction action = {}, before[3];
    const int signals[3] = {SIGSEGV, SIGILL, SIGBUS};
    action.sa_handler = [](int) { siglongjmp(crash, 1); };
    action.sa_flags = SA_ONSTACK;
    static char alternative[1 << 16];
    stack_t stack = {}, old;
    stack.ss_sp = alternative;
    stack.ss_size = sizeof alternative;
    sigaltstack(&stack, &old);
    for (int i = 0; i < 3; ++i) sigaction(signals[i], &action, &before[i]);
    if (sigsetjmp(crash, 1)) {
        error = "an access outside of memory, a misaligned one, or arithmetic without a defined result";
    } else {
        const unsigned first = seed ? draw(groups) : 0;
        for (unsigned i = 0; i < groups; ++i)
            if (!run_blocks((first + i) % groups * shape[6], shape[4])) break;
    }
    for (int i = 0; i < 3; ++i) sigaction(signals[i], &before[i], nullptr);
    sigaltstack(&old, nullptr);
    return error;
}
template <class... A, size_t... I>
static void call(void (*function)(A...), void** arguments, std::index_sequence<I...>) {
    function(*static_cast<std::remove_cv_t<A>*>(arguments[I])...);
}
template <class... A>
static const char* launch_kernel(void (*function)(A...), const unsigned* shape, void** arguments, unsigned count) {
    if (count != sizeof...(A)) return "a launch with too few or too many arguments";
    return launch(shape, [=] { call(function, arguments, std::index_sequence_for<A...>()); });
}
}  // namespace host

static inline void __syncthreads() { host::at_barrier(0); }
static inline int __syncthreads_or(int predicate) { return host::at_barrier(predicate) != 0; }
static inline void __threadfence() {}
static inline void __nanosleep(unsigned) { host::sleep(); }
static inline void __cluster_barrier_arrive() {}
static inline void __cluster_barrier_wait() { host::pause(host::AT_CLUSTER); }
static inline void* __cluster_map_shared_rank(const void* place, unsigned block) { return host::in_block(place, block); }
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
static inline T atomicSub(T* at, std::common_type_t<T> value) { return exchange<T>(at, *at - value); }
template <class T>
static inline T atomicMax(T* at, std::common_type_t<T> value) { return exchange<T>(at, *at < value ? value : *at); }
static inline unsigned atomicInc(unsigned* at, unsigned top) { return exchange(at, *at >= top ? 0u : *at + 1); }

template <class A, class B>
static constexpr auto min(A a, B b) { return b < a ? b : a; }
template <class A, class B>
static constexpr auto max(A a, B b) { return a < b ? b : a; }
template <class T>
static inline T __ldg(const T* at) { return *at; }
template <class T>
static inline T __ldcg(const T* at) { return *at; }
template <class T>
static inline void __stcs(T* at, T value) { *at = value; }

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
