#pragma once

#include <cstddef>
#include <cstdint>

/// Runs one input; aborts when the heap does not do what the model says. The name is libFuzzer's.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
