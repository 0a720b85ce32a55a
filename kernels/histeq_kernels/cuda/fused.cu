// Equalize one small image in one cooperative launch: all blocks count, wait for one another, and map.
//
// Two launches take the drain of the first and the start of the second in between, and the host twice the time; the
// wait takes about as long as one of them. Where every block has one stretch to read, that is more than the pixels take.
// Grid: x blocks, which the launch may make fewer. `tables` has no entries: the kernel makes them.

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
equalize_u8(Layout at, const char* image, const __grid_constant__ Rule rule, Results results,
            Tables tables, char* out) {
    const CopiedCounters counters = counters_u8();
    counters.clear(nullptr);
    __syncthreads();
    for_each_value<u8>(at, image, [&](u8 value) { counters.add(value); });
    __syncthreads();
    counters.fold_into(results.counts);
    wait_for_grid(&results.tickets[1]);
    // The counters have served. Every block makes the table for itself, where they were.
    u8* const levels = behind_scratch<u8>();
    const BankedTable table{levels + 256};
    write_table(results.counts, rule, levels);
    __syncthreads();
    table.load(levels, tables);
    if (is_last_block(&results.tickets[0], gridDim.x)) {  // nobody needs the counts any more
        for (i64 bin = threadIdx.x; bin < rule.bins; bin += blockDim.x) results.counts[bin] = 0;
        if (threadIdx.x == 0) results.tickets[1] = 0;
    }
    map_contiguous<u8, true>(at, image, out, table, fetch_from_memory);
}
