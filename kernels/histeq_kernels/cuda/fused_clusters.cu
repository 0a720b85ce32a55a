// Equalize a batch of frames, each by a cluster of blocks, which add up their counts through one another's shared
// memory and keep there what they have read of the frame: one read and one write of memory a pixel, where two launches
// read a batch twice that is larger than the L2 cache. What does not fit is read again, soon, while L2 has it.
// For sm_90 and later; compiled for these alone.
//
// Grid: x one cluster, y frames (in steps of gridDim.y). `tables` has no entries: the kernel makes them.

// Wait for all threads of the cluster; what they wrote to shared memory is visible then.
__device__ __forceinline__ void wait_for_cluster() {
    __cluster_barrier_arrive();
    __cluster_barrier_wait();
}

// What a block of a cluster has in shared memory, behind the scratch.
struct ClusterBlock {
    u64 counts[256];  // of this block
    u64 totals[256];  // of the cluster
    u8 levels[256];
    u8 banked[TABLE_U8];
    u32 counters[256 * COPIES_U8];
    uint4 kept[1];  // of the frame: VECTORS for each thread and stretch that is kept

    __device__ __forceinline__ uint4& place(i64 ordinal, int k) {
        return kept[(ordinal * VECTORS + k) * THREADS + threadIdx.x];
    }
    __device__ __forceinline__ void add_up() {
        for (int bin = threadIdx.x; bin < 256; bin += blockDim.x) {
            u64 sum = 0;
            for (u32 block = 0; block < CLUSTER; ++block)
                sum += *static_cast<const u64*>(__cluster_map_shared_rank(&counts[bin], block));
            totals[bin] = sum;
        }
    }
};

extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(THREADS, RESIDENT_BLOCKS)
equalize_u8_clusters(Layout at, const char* image, const __grid_constant__ Rule rule,
                     Tables tables, i64 kept, char* out) {
    ClusterBlock& mine = *behind_scratch<ClusterBlock>();
    const CopiedCounters counters{mine.counters, 256, COPIES_U8};
    const BankedTable table{mine.banked};
    for (i64 index = blockIdx.y; index < at.images * at.planes; index += gridDim.y) {
        const Plane plane(at, index);
        const char* const pixels = image + plane.offset(at.image);
        counters.clear(nullptr);
        for (int bin = threadIdx.x; bin < 256; bin += blockDim.x) mine.counts[bin] = 0;
        __syncthreads();
        for_each_value<u8>(
            at, pixels,
            [&](i64 ordinal, int k, const uint4& vector) { if (ordinal < kept) mine.place(ordinal, k) = vector; },
            [&](u8 value) { counters.add(value); });
        __syncthreads();
        counters.fold_into(mine.counts);
        wait_for_cluster();  // all counts are there
        mine.add_up();
        wait_for_cluster();  // nobody reads them any more
        write_table(mine.totals, rule, mine.levels);
        __syncthreads();
        table.load(mine.levels, tables);
        __syncthreads();
        map_contiguous<u8, false>(at, pixels, out + plane.offset(at.out), table,
                                  [&](i64 ordinal, int k, const uint4* address) {
                                      return ordinal < kept ? mine.place(ordinal, k) : *address;
                                  });
    }
}
