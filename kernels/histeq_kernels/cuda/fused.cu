// Equalize planes of 8 bits in one launch: as many blocks as the device holds share all the work, which lies in order.
//
// An item of work counts a part of a plane, or maps one. A plane's items for counting come before those for mapping it,
// `lag` planes before where there are so many: what is mapped was read shortly before, and L2 has it. Blocks draw items
// by a ticket. Who maps waits until the plane is counted; this cannot end in a deadlock, however few blocks run at the
// same time: whoever has drawn an item finishes those before it first, and the first unfinished item waits for nothing.
//
// Grid: x blocks, of any number of threads up to THREADS.

struct Work {
    i64 planes;
    i64 lag;        // planes that are counted before the first one is mapped, 1 to `planes`
    i64 stretches;  // of a plane, those of an item
    u64* counts;    // of all planes, 256 each
    u32* tickets;   // the next item; then of each plane, how many parts were counted; then, how many are being mapped
                    // or were: all are 0 before and after the launch
};

// What is done to a part of a plane.
struct Item {
    u32 plane, part;
    bool maps;

    // Planes take turns: `lag` are counted; then one is counted and one is mapped, until the rest are mapped.
    __device__ __forceinline__ Item(const Work& work, u32 ticket, u32 parts) {
        const u32 planes = static_cast<u32>(work.planes), lag = static_cast<u32>(work.lag);
        const u32 turn = ticket / parts;
        part = ticket - turn * parts;
        const u32 later = turn - lag;
        if (turn < lag) {
            plane = turn;
            maps = false;
        } else if (later < 2 * (planes - lag)) {
            plane = later % 2 ? later / 2 : lag + later / 2;
            maps = later % 2;
        } else {
            plane = later - (planes - lag);
            maps = true;
        }
    }
};

// Tell all threads of the block what thread 0 has drawn; they have all come here then.
__device__ __forceinline__ u32 announced(u32 ticket) {
    if (threadIdx.x == 0) scratch()->ticket = ticket;
    __syncthreads();
    return scratch()->ticket;
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
equalize_u8(const __grid_constant__ Layout at, const char* image, const __grid_constant__ Rule rule,
            const __grid_constant__ Tables tables, const __grid_constant__ Work work, char* out) {
    // The counters and the table take turns in the same memory.
    const LaneCounters counters{LaneWords(), tables.flip};
    const LaneTable table;
    u8* const levels = behind_scratch<u8>() + COUNTERS_U8;
    const u32 parts = static_cast<u32>(
        (at.layers * at.rows * stretches_in_row(AlignedRow::most(at.columns), WARP * VECTORS) + work.stretches - 1) /
        work.stretches);
    const u32 items = 2 * static_cast<u32>(work.planes) * parts;
    u32* const counted = work.tickets + 1;
    u32* const taken = counted + work.planes;
    // Every block draws once in vain: the last one leaves 0.
    const auto draw = [&] { return atomicInc(work.tickets, items + gridDim.x - 1); };

    const u32 first = threadIdx.x == 0 ? draw() : 0;
    counters.clear();  // while the first ticket is on its way
    bool is_clear = true;
    u32 ticket = announced(first);
    while (ticket < items) {
        const Item item(work, ticket, parts);
        const Plane plane(at, item.plane);
        const char* const pixels = image + plane.offset(at.image);
        const Share share = Share::of_part(item.part, work.stretches);
        u64* const counts = work.counts + 256 * static_cast<i64>(item.plane);
        if (item.maps) {
            if (threadIdx.x == 0) {
                while (*static_cast<volatile u32*>(&counted[item.plane]) < parts) __nanosleep(32);
                __threadfence();
            }
            __syncthreads();
            // Every block makes the table for itself: nobody waits for one that makes it for all.
            write_table(counts, rule, levels);
            __syncthreads();
            table.load(levels, tables);
            // Both are on their way while pixels are mapped. Two threads ask for them, so that one register is enough: a
            // second one would be spilled, and to spill it is to wait for it.
            u32 found = 0;
            if (threadIdx.x == 0) found = draw();
            if (threadIdx.x == WARP) found = atomicInc(&taken[item.plane], parts - 1);
            __syncthreads();
            map_contiguous<u8, true>(at, share, pixels, out + plane.offset(at.out), table);
            if (threadIdx.x == WARP) scratch()->is_last = found == parts - 1;
            ticket = announced(found);
            if (scratch()->is_last) {  // nobody needs the counts any more
                for (int bin = threadIdx.x; bin < 256; bin += blockDim.x) counts[bin] = 0;
                if (threadIdx.x == 0) counted[item.plane] = 0;
            }
        } else {
            if (!is_clear) {
                counters.clear();
                __syncthreads();
            }
            count_bytes(at, share, pixels, counters);
            __syncthreads();
            const u32 next = threadIdx.x == 0 ? draw() : 0;
            counters.fold_into(counts);
            ticket = announced(next);
            if (threadIdx.x == 0) {
                __threadfence();
                atomicAdd(&counted[item.plane], 1u);
            }
        }
        is_clear = false;
    }
}
