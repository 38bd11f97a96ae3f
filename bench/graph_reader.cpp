#include "bench/graph_reader.hpp"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "bench/command.hpp"
#include "bench/host_memory.hpp"
#include "bench/text_lines.hpp"

namespace warpheap::bench {
namespace {

constexpr std::string_view banner = "%%MatrixMarket";
constexpr std::uint64_t most_vertices = std::numeric_limits<std::uint32_t>::max();

std::string in_quotes(std::string_view text) {
  constexpr std::size_t most = 40;
  return "'" + std::string(text.substr(0, most)) + (text.size() > most ? "..." : "") + "'";
}

/// Of a graph's rows, of the graph that it is compared with, and of the arrays for kernels.
constexpr std::size_t bytes_per_vertex = 64;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

}  // namespace

graph_rows parse_matrix_market(std::string_view text, const std::string& name) {
  line_reader lines(text);
  const auto fail = [&](const std::string& what) -> bad_input {
    return {name, lines.number(), what};
  };
  std::string_view head = lines.next().value_or("");
  const std::string_view full_head = head;
  if (take_field(head, " \t") != banner)
    throw fail("expected %%MatrixMarket, found " + in_quotes(full_head));
  const std::string object = lower(take_field(head, " \t"));
  const std::string format = lower(take_field(head, " \t"));
  const std::string type = lower(take_field(head, " \t"));
  const std::string symmetry = lower(take_field(head, " \t"));
  if (object != "matrix" || format != "coordinate")
    throw fail("expected 'matrix coordinate', found " + in_quotes(object + ' ' + format));
  if (type != "pattern" && type != "real" && type != "integer" && type != "complex"
      && type != "double")
    throw fail("expected pattern, real, integer or complex, found " + in_quotes(type));
  const bool both =
      symmetry == "symmetric" || symmetry == "skew-symmetric" || symmetry == "hermitian";
  if (!both && symmetry != "general")
    throw fail("expected general, symmetric, skew-symmetric or hermitian, found "
               + in_quotes(symmetry));

  std::optional<std::string_view> line;
  while ((line = lines.next()) && (line->empty() || line->front() == '%')) {
  }
  if (!line) throw fail("expected a line with rows, columns and entries, found the end");
  std::string_view sizes = *line;
  const auto rows = number_in<std::uint64_t>(take_field(sizes, " \t"));
  const auto columns = number_in<std::uint64_t>(take_field(sizes, " \t"));
  const auto entries = number_in<std::uint64_t>(take_field(sizes, " \t"));
  if (!rows || !columns || !entries || !take_field(sizes, " \t").empty())
    throw fail("expected rows, columns and entries, found " + in_quotes(*line));
  const std::uint64_t vertices = std::max(*rows, *columns);
  if (vertices >= most_vertices)
    throw fail("expected less than 2^32 - 1 rows and columns, found " + std::to_string(vertices));
  if (vertices > available_memory() / bytes_per_vertex)
    throw fail("expected a graph that fits into memory, found " + std::to_string(vertices)
               + " vertices");

  std::vector<std::pair<std::uint32_t, std::uint32_t>> edges;
  std::uint64_t seen = 0;
  while ((line = lines.next())) {
    std::string_view entry = *line;
    const std::string_view first = take_field(entry, " \t");
    if (first.empty() || first.front() == '%') continue;
    const auto row = number_in<std::uint64_t>(first);
    const auto column = number_in<std::uint64_t>(take_field(entry, " \t"));
    if (!row || !column) throw fail("expected row and column, found " + in_quotes(*line));
    if (*row < 1 || *row > *rows || *column < 1 || *column > *columns)
      throw fail("expected an entry inside of " + std::to_string(*rows) + " x "
                 + std::to_string(*columns) + ", found " + in_quotes(*line));
    if (++seen > *entries)
      throw fail("expected " + std::to_string(*entries) + " entries, found more");
    const auto source = static_cast<std::uint32_t>(*row - 1);
    const auto target = static_cast<std::uint32_t>(*column - 1);
    edges.emplace_back(source, target);
    if (both && source != target) edges.emplace_back(target, source);
  }
  if (seen != *entries)
    throw fail("expected " + std::to_string(*entries) + " entries, found " + std::to_string(seen));
  graph_rows out = rows_from_edges(vertices, std::move(edges));
  out.sources = {name};
  return out;
}

graph_rows parse_edge_list(std::string_view text, const std::string& name) {
  constexpr std::string_view separators = " \t,";
  line_reader lines(text);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> read;
  while (const auto line = lines.next()) {
    std::string_view rest = *line;
    const std::string_view first = take_field(rest, separators);
    if (first.empty() || first.front() == '#' || first.front() == '%') continue;
    const auto source = number_in<std::uint64_t>(first);
    const auto target = number_in<std::uint64_t>(take_field(rest, separators));
    if (!source || !target)
      throw bad_input(name, lines.number(),
                      "expected the numbers of two vertices, found " + in_quotes(*line));
    read.emplace_back(*source, *target);
  }
  std::vector<std::uint64_t> numbers;
  numbers.reserve(2 * read.size());
  for (const auto& [source, target] : read) {
    numbers.push_back(source);
    numbers.push_back(target);
  }
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  if (numbers.size() >= most_vertices)
    throw bad_input(name, lines.number(), "expected less than 2^32 - 1 vertices, found more");
  const auto index = [&](std::uint64_t number) {
    return static_cast<std::uint32_t>(std::lower_bound(numbers.begin(), numbers.end(), number)
                                      - numbers.begin());
  };
  std::vector<std::pair<std::uint32_t, std::uint32_t>> edges;
  edges.reserve(read.size());
  for (const auto& [source, target] : read) edges.emplace_back(index(source), index(target));
  graph_rows out = rows_from_edges(numbers.size(), std::move(edges));
  out.sources = {name};
  return out;
}

graph_rows read_graph(const std::string& path) {
  const std::string text = read_whole_file(path);
  return text.starts_with(banner) ? parse_matrix_market(text, path) : parse_edge_list(text, path);
}

}  // namespace warpheap::bench
