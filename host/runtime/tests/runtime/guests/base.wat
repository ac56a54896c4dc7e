;; What every guest has: a memory, an allocator that only goes forward, and a result area at 1024.
(memory $memory (export "memory") 4)
(global $heap (mut i32) (i32.const 65536))
(func $allocate (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
  (local $at i32)
  (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
  (global.set $heap (i32.add (local.get $at) (local.get $size)))
  (block $fits
    (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
    (br_if $fits (i32.ne (i32.const -1) (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536))))))
    unreachable)
  (local.get $at))
(data (i32.const 512) "all is well")
