// Tables of histograms that are there already: one block each.

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
lookup_table(const u64* counts, i64 histograms, const __grid_constant__ Rule rule, void* tables) {
    for (i64 index = blockIdx.x; index < histograms; index += gridDim.x) {
        write_table(counts + index * rule.bins, rule, table_of(tables, rule, index));
        __syncthreads();  // before the scratch serves the next one
    }
}
