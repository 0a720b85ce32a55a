// Equalize one image of 16 bits in one launch: as many blocks as the device holds share all the work, which lies in
// order. Items of work count a slice of the values in a part of the image, make a part of the table, or map a part.
// Blocks draw items by a ticket and wait until what comes before is done; as in fused.cu, this cannot end in a deadlock.

struct WideWork {
    i64 stretches, slices;  // of a part that is mapped; those that are counted have `slices` times as many
    i64 in_shared;          // the table goes to shared memory
    u64* counts;            // wide_counts of one plane
    u16* table;
    u32* tickets;           // the next item; items that have counted; items that have made tables; items that map or have
                            // mapped: all are 0 before and after the launch
};

// Wait until `count` items are done; what they wrote is visible then.
__device__ __forceinline__ void wait_for_items(u32* done, u32 count) {
    if (threadIdx.x == 0) {
        while (*static_cast<volatile u32*>(done) < count) __nanosleep(32);
        __threadfence();
    }
    __syncthreads();
}
// Tell that an item is done, after all threads of the block.
__device__ __forceinline__ void item_is_done(u32* done) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(done, 1u);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
equalize_u16(const __grid_constant__ Layout at, const char* image, const __grid_constant__ Rule rule,
             const __grid_constant__ Tables tables, const __grid_constant__ WideWork work, char* out) {
    const i64 all = at.layers * at.rows * stretches_in_row(AlignedRow::most(at.columns * 2), WARP * VECTORS);
    const u32 slices = static_cast<u32>(work.slices), mapping = static_cast<u32>((all - 1) / work.stretches + 1);
    const u32 counting = static_cast<u32>((all - 1) / (work.stretches * slices) + 1) * slices;
    const u32 making = CHUNKS / warps(), items = counting + making + mapping;
    u32* const counted = work.tickets + 1;
    u32* const made = work.tickets + 2;
    const WideTable table{behind_scratch<u16>()};
    CachedTable<u16, true> cached(tables);
    bool is_loaded = false;
    while (true) {
        // Every block draws once in vain: the last one leaves 0.
        if (threadIdx.x == 0) scratch()->ticket = atomicInc(work.tickets, items + gridDim.x - 1);
        __syncthreads();
        const u32 ticket = scratch()->ticket;
        if (ticket >= items) return;
        if (ticket < counting) {
            const SlicedCounters counters(ticket % slices, slices, tables.flip);
            counters.clear();
            __syncthreads();
            count_pairs(at, Share::of_part(ticket / slices, work.stretches * slices), image, counters);
            __syncthreads();
            counters.fold_into(work.counts);
            item_is_done(counted);
        } else if (ticket < counting + making) {
            wait_for_items(counted, counting);
            finish_chunk(work.counts, rule, work.table, nullptr, static_cast<i64>(ticket - counting) * warps() + warp_id());
            item_is_done(made);
        } else {
            wait_for_items(made, making);
            if (!is_loaded) {
                if (work.in_shared) table.load(work.table, tables);
                else cached.load(work.table, tables);
                is_loaded = true;
            }
            // Nobody waits any more, and nobody needs the counts, when the last item has come here.
            if (is_last_block(&work.tickets[3], mapping)) {
                if (threadIdx.x == 0) *counted = *made = 0;
                if (warp_id() == 0) looked_into(work.counts, rule).clear(work.counts);
            }
            const Share share = Share::of_part(ticket - counting - making, work.stretches);
            if (work.in_shared) map_contiguous<u16, true>(at, share, image, out, table);
            else map_contiguous<u16, true>(at, share, image, out, cached);
        }
    }
}
