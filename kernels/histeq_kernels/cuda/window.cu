// The frames of a video: counts that are summed over a window of time, which ends where a shot does. How many frames
// there were is known here alone, so that a graph can be launched for one frame after the other.

// What is kept between frames, and how frames are summed. The arrays:
//   ring       the counts of the latest `slots` frames, a frame's in slot (frame % slots)
//   total      their sum over the frames from state[STATE_LOW] to state[STATE_HIGH] - 1
//   shares     the normalised histogram of the latest frame, in units of 1 / unit
//   distances  of the latest DISTANCES frames, each from the frame before it
//   cuts       the latest `most_cuts` frames that begin a shot
struct Window {
    i64 counters;  // counts of a frame
    i64 levels;    // of its histogram
    i64 slots;
    i64 before, after;  // frames around the one that is mapped
    i64 ahead;          // frames after a cut that tell it; -1: there are no cuts
    i64 around;         // frames before it
    i64 most_cuts;
    double least, times, unit;
    u64* ring;
    u64* total;
    i64* shares;
    double* distances;
    i64* cuts;
    i64* state;
    u32* tickets;  // two, of 0
};

// Counts of which each plane is contiguous.
struct PlanesOfCounts {
    const u64* first;
    i64 bins, stride;

    __device__ __forceinline__ u64 at(i64 i) const {
        const i64 plane = i / bins;
        return first[plane * stride + i - plane * bins];
    }
};

// The sum over all threads of a block.
__device__ __forceinline__ u64 block_sum(u64 value) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
    __syncthreads();  // nobody reads the scratch's former content any more
    if (lane_id() == 0) scratch()->sums[warp_id()] = value;
    __syncthreads();
    u64 sum = 0;
    for (int w = 0; w < warps(); ++w) sum += scratch()->sums[w];
    return sum;
}

// Decide whether a frame begins a shot, by the frames around it up to `last`.
__device__ __forceinline__ void judge(const Window& w, i64 frame, i64 last) {
    const double d = w.distances[frame % DISTANCES];
    bool begins = d > w.least;
    for (i64 other = max(frame - w.around, 1ll); other <= min(frame + w.ahead, last); ++other)
        if (other != frame) begins = begins && d > multiply(w.times, w.distances[other % DISTANCES]);
    if (begins) {
        w.cuts[w.state[STATE_CUTS] % w.most_cuts] = frame;
        ++w.state[STATE_CUTS];
    }
    w.state[STATE_JUDGED] = frame + 1;
}

// Half the L1 distance of the histogram of a frame from that of the frame before, whose shares it replaces.
__device__ __forceinline__ double distance_of(const Window& w, const PlanesOfCounts& histogram) {
    u64 sum = 0;
    for (i64 i = threadIdx.x; i < w.levels; i += blockDim.x) sum += histogram.at(i);
    const u64 total = block_sum(sum);
    u64 moved = 0, before = 0;
    for (i64 i = threadIdx.x; i < w.levels; i += blockDim.x) {
        const double part = total ? divide(__ll2double_rn(histogram.at(i)), __ll2double_rn(total)) : 0.0;
        const i64 share = __double2ll_rz(multiply(part, w.unit)), old = w.shares[i];
        moved += share > old ? share - old : old - share;
        before += old;
        w.shares[i] = share;
    }
    moved = block_sum(moved);
    before = block_sum(before);
    return before && total ? divide(__ll2double_rn(moved), multiply(2.0, w.unit)) : 0.0;
}

// Keep the counts of a frame; the last block tells cuts by its histogram.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
window_add(const __grid_constant__ Window w, const __grid_constant__ PlanesOfCounts counts,
           const __grid_constant__ PlanesOfCounts histogram) {
    const i64 frame = w.state[STATE_FRAMES];
    u64* const kept = w.ring + frame % w.slots * w.counters;
    const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
    for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < w.counters; i += step)
        kept[i] = counts.at(i);
    if (!is_last_block(&w.tickets[0], gridDim.x)) return;
    const double distance = w.ahead < 0 ? 0.0 : distance_of(w, histogram);
    if (threadIdx.x == 0) {
        w.distances[frame % DISTANCES] = distance;
        w.state[STATE_FRAMES] = frame + 1;
        if (w.ahead >= 0 && frame - w.ahead >= 1) judge(w, frame - w.ahead, frame);
    }
}

// There are no more frames: decide of the last ones.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
window_finish(const __grid_constant__ Window w) {
    const i64 frames = w.state[STATE_FRAMES];
    __syncthreads();
    if (threadIdx.x == 0)
        for (i64 frame = max(w.state[STATE_JUDGED], 1ll); frame < frames; ++frame) judge(w, frame, frames - 1);
}

// Sum the counts over the window of the next frame; `copy`, if it is not null, becomes the same.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
window_sum(const __grid_constant__ Window w, u64* copy) {
    const i64 frame = w.state[STATE_MAPPED], old_low = w.state[STATE_LOW], old_high = w.state[STATE_HIGH];
    i64 begin = 0, end = w.state[STATE_FRAMES];
    for (i64 i = w.state[STATE_CUTS] - 1; i >= 0; --i) {
        const i64 cut = w.cuts[i % w.most_cuts];
        if (cut <= frame) {
            begin = cut;
            break;
        }
        end = cut;
    }
    const i64 low = max(frame - w.before, begin), high = min(frame + w.after + 1, end);
    const bool anew = low >= old_high;
    const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
    for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < w.counters; i += step) {
        u64 sum = anew ? 0 : w.total[i];
        for (i64 f = anew ? low : old_high; f < high; ++f) sum += w.ring[f % w.slots * w.counters + i];
        for (i64 f = old_low; f < low && !anew; ++f) sum -= w.ring[f % w.slots * w.counters + i];
        w.total[i] = sum;
        if (copy != nullptr) copy[i] = sum;
    }
    if (!is_last_block(&w.tickets[1], gridDim.x)) return;
    if (threadIdx.x == 0) {
        w.state[STATE_MAPPED] = frame + 1;
        w.state[STATE_LOW] = low;
        w.state[STATE_HIGH] = high;
    }
}

// Add up the counts of tiles, (planes, tiles, bins), to histograms, (planes, bins).
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
add_tiles(const u64* counts, i64 planes, i64 tiles, i64 bins, u64* histogram) {
    const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
    for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < planes * bins; i += step) {
        const i64 plane = i / bins;
        const u64* const first = counts + plane * tiles * bins + i - plane * bins;
        u64 sum = 0;
        for (i64 tile = 0; tile < tiles; ++tile) sum += first[tile * bins];
        histogram[i] = sum;
    }
}

template <class Level>
__device__ __forceinline__ void blend_with(Level* tables, i64 entries, const i64* kept, i64 bins, double strength) {
    const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
    for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < entries; i += step) {
        const double same = __ll2double_rn(kept[i % bins]);
        const double whole = subtract(__ll2double_rn(static_cast<i64>(tables[i])), same);
        tables[i] = static_cast<Level>(__double2ll_rn(add(same, multiply(strength, whole))));
    }
}

// Turn tables into those between the levels that keep every pixel and theirs. `width` is that of a level in bytes,
// negative for signed ones.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
blend_tables(void* tables, i64 width, i64 entries, const i64* kept, i64 bins, double strength) {
    if (width == 1) blend_with(static_cast<u8*>(tables), entries, kept, bins, strength);
    if (width == 2) blend_with(static_cast<u16*>(tables), entries, kept, bins, strength);
    if (width == -1) blend_with(static_cast<signed char*>(tables), entries, kept, bins, strength);
    if (width == -2) blend_with(static_cast<short*>(tables), entries, kept, bins, strength);
}
