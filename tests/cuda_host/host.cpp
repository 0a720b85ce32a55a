// The blocks, warps and fibers behind host.h, with which it is compiled once for all units: see there.

#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

uint3 threadIdx, blockIdx, blockDim, gridDim;
uint4* shared_memory;

namespace host {
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
static Call call;
static void (*kernel)();
static void** arguments;
static const char* error;
static std::vector<uint64_t> snapshot;  // what the fibers brought to the latest rendezvous
uint64_t seed;

// The turn of a warp: its lanes run one after another, each until it pauses.
constexpr unsigned LANES = 32;
static struct {
    Fiber* first;
    const uint64_t* brought;  // to the latest shuffle
    unsigned thread;          // of the first lane, in its block
    unsigned start, step;     // the order of the lanes
    unsigned next, resumed;
} turn;

__attribute__((noinline)) static void to_scheduler() { __builtin_longjmp(scheduler, 1); }
__attribute__((noinline)) static void to_fiber() { __builtin_longjmp(running->registers, 1); }
// Go on with the next lane that is ready, or with the scheduler after the last one.
__attribute__((noinline)) static void to_next() {
    while (turn.next < LANES) {
        const unsigned lane = (turn.start + turn.next++ * turn.step) % LANES;
        if (turn.first[lane].state != READY) continue;
        ++turn.resumed;
        running = turn.first + lane;
        threadIdx.x = turn.thread + lane;
        if (running->has_begun) to_fiber();
        running->has_begun = true;
        setcontext(&starts[running - fibers.data()]);
    }
    to_scheduler();
}
__attribute__((noinline)) void pause(State state) {
    running->state = state;
    if (!__builtin_setjmp(running->registers)) to_next();
}
static void fail(const char* message) {
    error = message;
    to_scheduler();
}
static void body() {
    while (true) {
        call(kernel, arguments);
        pause(DONE);  // until it has another block's thread to run: to begin anew asks the system, which takes longer
    }
}
uint64_t at_barrier(uint64_t value) {
    running->value = value;
    pause(AT_BARRIER);
    return running->value;
}
uint64_t shuffle(unsigned mask, uint64_t value, unsigned from) {
    if (mask != 0xffffffffu) fail("a shuffle names fewer than 32 lanes");
    running->value = value;
    pause(AT_SHUFFLE);
    return turn.brought[from];
}
void sleep() {
    if (++sleeps > 200000) fail("some threads wait for what never comes");
    pause(READY);
}

static void release(size_t begin, size_t end, bool combine) {
    uint64_t any = 0;
    for (size_t i = begin; i < end; ++i) any |= snapshot[i] = fibers[i].value;
    for (size_t i = begin; i < end; ++i) {
        if (combine) fibers[i].value = any;
        fibers[i].state = READY;
    }
}
// What the fibers of a warp wait for, after those that are ready have run until they pause.
struct Waiting {
    size_t at_barrier, at_shuffle, done, resumed;
};
__attribute__((noinline)) static Waiting run_warp(size_t warp) {
    const size_t first = warp * LANES, block = first / threads;
    const unsigned number = first_block + static_cast<unsigned>(block);
    blockIdx = {number % grid[0], number / grid[0] % grid[1], number / grid[0] / grid[1]};
    shared_memory = memories[block].data();
    const unsigned steps[] = {1, LANES - 1, 5, LANES - 11};  // odd: each goes to every lane
    const unsigned start = seed ? draw(LANES) : 0, step = seed ? steps[draw(4)] : 1;
    turn = {&fibers[first], &snapshot[first], static_cast<unsigned>(first - block * threads), start, step, 0, 0};
    if (!__builtin_setjmp(scheduler)) to_next();
    Waiting result = {};
    result.resumed = turn.resumed;
    for (const Fiber* fiber = turn.first; fiber < turn.first + LANES; ++fiber) {
        result.at_barrier += fiber->state == AT_BARRIER;
        result.at_shuffle += fiber->state == AT_SHUFFLE;
        result.done += fiber->state == DONE;
    }
    return result;
}
// Run some blocks at the same time.
static bool run_blocks(unsigned first, size_t blocks, unsigned shared) {
    const size_t all = threads * blocks, warps = all / 32;
    first_block = first;
    sleeps = 0;
    for (size_t i = 0; i < blocks; ++i) memset(memories[i].data(), 0xA5, shared + 64);
    for (size_t i = 0; i < all; ++i) {
        fibers[i].has_begun &= fibers[i].state == DONE;  // not those that a failed launch has left
        fibers[i].state = READY;
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
            waiting[block].done += now.done;
        }
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
        }
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

const char* launch(const unsigned* shape, Call how, void (*what)(), void** values) {
    if (shape[3] % 32 || shape[3] > MOST || shape[4] > SHARED_MOST)
        return "a launch of a shape that CUDA refuses";
    threads = shape[3];
    make_fibers(shape[6], shape[4]);
    call = how;
    kernel = what;
    arguments = values;
    error = nullptr;
    seed = shape[5];
    gridDim = {shape[0], shape[1], shape[2]};
    memcpy(grid, shape, sizeof grid);
    blockDim = {shape[3], 1, 1};
    const unsigned all = shape[0] * shape[1] * shape[2], groups = (all + shape[6] - 1) / shape[6];
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
        for (unsigned i = 0; i < groups; ++i) {
            const unsigned begin = (first + i) % groups * shape[6];
            if (!run_blocks(begin, std::min(shape[6], all - begin), shape[4])) break;
        }
    }
    for (int i = 0; i < 3; ++i) sigaction(signals[i], &before[i], nullptr);
    sigaltstack(&old, nullptr);
    return error;
}
}  // namespace host
