"""What every kernel is made with: its declaration, tiers, views of memory, LLVM instructions."""
