#include "bench/report.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <stdexcept>

#include "bench/json.hpp"
#include "bench/statistics.hpp"

namespace warpheap::bench {
namespace {

std::string printed(const char* format, double number) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), format, number);
  return buffer.data();
}

// Three significant digits of a number below 1000.
std::string three_digits(double number) {
  return printed(number < 9.995 ? "%.2f" : number < 99.95 ? "%.1f" : "%.0f", number);
}

std::string field_text(const field_value& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  if (const auto* number = std::get_if<double>(&value)) return format_number(*number);
  if (const auto* number = std::get_if<std::int64_t>(&value)) return std::to_string(*number);
  if (const auto* number = std::get_if<std::uint64_t>(&value)) return std::to_string(*number);
  return std::get<bool>(value) ? "yes" : "no";
}

std::string fields_text(const fields& params) {
  std::string out;
  for (const auto& [name, value] : params) {
    if (!out.empty()) out += ' ';
    out += name + '=' + field_text(value);
  }
  return out;
}

/// As RFC 4180 wants it: quotes around what has a comma, a quote or a line break.
std::string csv_quote(const std::string& cell) {
  if (cell.find_first_of(",\"\r\n") == cell.npos) return cell;
  std::string out = "\"";
  for (const char c : cell) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + '"';
}

constexpr const char* check_names[] = {"ok", "FAILED", "skipped"};
const char* check_name(check_state state) { return check_names[static_cast<int>(state)]; }

struct column {
  const char* title;
  int width;
  bool left;
};
constexpr std::array<column, 17> columns = {{{"workload", 16, true},
                                             {"backend", 7, true},
                                             {"operation", 15, true},
                                             {"ops/s", 7, false},
                                             {"ns/op", 7, false},
                                             {"cpu", 7, false},
                                             {"noise", 5, false},
                                             {"cold", 7, false},
                                             {"mallocs", 7, false},
                                             {"nulls", 6, false},
                                             {"req/M", 6, false},
                                             {"waits/M", 7, false},
                                             {"in use", 8, false},
                                             {"peak", 8, false},
                                             {"util", 5, false},
                                             {"check", 7, true},
                                             {"params", 6, true}}};

void print_row(std::ostream& out, std::size_t name_width,
               const std::array<std::string, columns.size()>& cells) {
  std::string line;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const auto width = i == 0 ? name_width : static_cast<std::size_t>(columns[i].width);
    const std::size_t gap = cells[i].size() < width ? width - cells[i].size() : 0;
    if (i != 0) line += "  ";
    if (!columns[i].left) line.append(gap, ' ');
    line += cells[i];
    if (columns[i].left) line.append(gap, ' ');
  }
  line.erase(line.find_last_not_of(' ') + 1);
  out << line << '\n';
}

void write_fields(json_writer& json, const fields& members) {
  for (const auto& [name, value] : members) {
    json.key(name);
    std::visit([&](const auto& v) { json.value(v); }, value);
  }
}

template <class T>
void write_optional(json_writer& json, std::string_view name, const std::optional<T>& value) {
  if (value) json.member(name, *value);
}

/// Median of the passes' medians.
std::optional<double> cpu_ns_per_op(const operation& timed) {
  std::vector<double> medians;
  for (const auto& pass : timed.cpu_passes)
    if (!pass.empty()) medians.push_back(median(pass));
  if (medians.empty()) return std::nullopt;
  return median(std::move(medians));
}

void write_passes(json_writer& json, const char* name,
                  const std::vector<std::vector<double>>& passes) {
  json.key(name);
  json.begin_array();
  for (const auto& pass : passes) {
    json.begin_array();
    for (const double sample : pass) json.value(sample);
    json.end_array();
  }
  json.end_array();
}

void write_operations(json_writer& json, const std::vector<operation>& operations) {
  json.key("operations");
  json.begin_array();
  for (const auto& timed : operations) {
    json.begin_object();
    json.member("name", timed.name);
    json.key("at");
    json.begin_object();
    write_fields(json, timed.at);
    json.end_object();
    json.member("ns_per_op", timed.ns_per_op);
    write_optional(json, "cold_ns_per_op", timed.cold_ns_per_op);
    if (!timed.passes.empty()) {
      const std::vector<double> all = all_samples(timed.passes);
      json.member("p5_ns_per_op", quantile(all, 0.05));
      json.member("p95_ns_per_op", quantile(all, 0.95));
      write_optional(json, "noise_percent", noise_percent(timed.passes));
      write_passes(json, "passes_ns_per_op", timed.passes);
      if (const auto cpu = cpu_ns_per_op(timed)) {
        json.member("cpu_ns_per_op", *cpu);
        write_optional(json, "cpu_noise_percent", noise_percent(timed.cpu_passes));
        write_passes(json, "passes_cpu_ns_per_op", timed.cpu_passes);
      }
    }
    json.end_object();
  }
  json.end_array();
}

void write_curves(json_writer& json, const std::vector<series>& curves) {
  json.key("series");
  json.begin_array();
  for (const auto& curve : curves) {
    json.begin_object();
    json.member("name", curve.name);
    json.member("x", curve.x);
    json.member("y", curve.y);
    json.key("points");
    json.begin_array();
    for (const auto& [x, y] : curve.points) {
      json.begin_array();
      json.value(x);
      json.value(y);
      json.end_array();
    }
    json.end_array();
    json.end_object();
  }
  json.end_array();
}

}  // namespace

std::string format_rate(double per_second) {
  if (!std::isfinite(per_second)) return "-";
  const char* prefix = "";
  for (const char* next : {" k", " M", " G", " T"}) {
    if (per_second < 999.5) break;
    per_second /= 1000;
    prefix = next;
  }
  return three_digits(per_second) + prefix;
}

std::string format_number(double number) {
  if (!std::isfinite(number)) return "-";
  if (number == 0) return "0";
  if (std::fabs(number) < 999.5) return three_digits(number);
  return printed(std::fabs(number) < 9'999'999.5 ? "%.0f" : "%.1e", number);
}

table::table(std::ostream& out, std::size_t name_width)
    : out_(out), name_width_(std::max<std::size_t>(name_width, 8)) {}

void table::header() {
  std::array<std::string, columns.size()> titles;
  std::array<std::string, columns.size()> lines;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    titles[i] = columns[i].title;
    lines[i] = std::string(i == 0 ? name_width_ : static_cast<std::size_t>(columns[i].width), '-');
  }
  print_row(out_, name_width_, titles);
  print_row(out_, name_width_, lines);
  out_.flush();
}

void table::rows(const result& one, std::string_view backend) {
  const auto number = [](const std::optional<double>& value) {
    return value ? format_number(*value) : std::string("-");
  };
  const auto bytes = [](const std::optional<std::uint64_t>& value) {
    return value ? format_bytes(*value) : std::string("-");
  };
  bool first = true;
  const auto row = [&](const operation* timed) {
    std::array<std::string, columns.size()> cells;
    cells[0] = one.name;
    cells[1] = backend;
    cells[2] = timed ? timed->name : "-";
    cells[3] = timed && timed->ns_per_op > 0 ? format_rate(1e9 / timed->ns_per_op) : "-";
    cells[4] = timed ? format_number(timed->ns_per_op) : "-";
    const auto cpu = timed ? cpu_ns_per_op(*timed) : std::nullopt;
    const auto noise =
        timed ? noise_percent(cpu ? timed->cpu_passes : timed->passes) : std::nullopt;
    cells[5] = number(cpu);
    cells[6] = noise ? printed("%.0f%%", *noise) : "-";
    cells[7] = timed ? number(timed->cold_ns_per_op) : "-";
    if (first) {  // these belong to the case, not to one of its operations
      cells[8] = one.calls ? format_rate(static_cast<double>(one.calls->mallocs)) : "-";
      cells[9] = one.calls ? std::to_string(one.calls->nulls) : "-";
      cells[10] = number(one.heap.host_requests_per_million_mallocs);
      cells[11] = number(one.heap.waits_per_million_mallocs);
      cells[12] = bytes(one.heap.bytes_in_use);
      cells[13] = bytes(one.heap.peak_bytes);
      cells[14] = one.heap.utilisation ? printed("%.0f%%", 100 * *one.heap.utilisation) : "-";
      cells[16] = fields_text(one.params);
    }
    if (timed && !timed->at.empty())
      cells[16] = fields_text(timed->at) + (first && !one.params.empty() ? "; " : "")
                  + (first ? fields_text(one.params) : "");
    cells[15] = check_name(one.check);
    print_row(out_, name_width_, cells);
    first = false;
  };
  for (const auto& timed : one.operations) row(&timed);
  if (one.operations.empty()) row(nullptr);
  if (!one.detail.empty()) out_ << "  " << one.detail << '\n';
  out_.flush();
}

report::target report::open_target(const std::string& name, const char* option) {
  if (name.empty()) return {};
  // Opened for appending: an older file stays whole until the first result replaces it.
  std::FILE* file = std::fopen(name.c_str(), "ab");
  if (file == nullptr)
    throw usage_error(std::string(option) + ": can't write '" + name
                      + "': " + std::strerror(errno));
  std::fclose(file);
  std::error_code ignored;
  return {name, std::filesystem::is_regular_file(name, ignored)};
}

report::report(machine where, options wanted, std::ostream& out, std::size_t name_width)
    : where_(std::move(where)),
      wanted_(std::move(wanted)),
      out_(out),
      table_(out, name_width),
      json_(open_target(wanted_.json_file, "--json")),
      csv_(open_target(wanted_.csv_file, "--csv")) {
  out_ << "warpheap_bench " << where_.revision << '\n'
       << "backend  " << where_.backend << " (" << where_.reason << ")\n"
       << "device   " << where_.device;
  if (where_.threads != 0) out_ << ", " << where_.threads << " executor threads";
  out_ << "\nheap     " << format_bytes(where_.reserve_bytes) << "\n\n";
  table_.header();
}

void report::add(result one, bool last_pass) {
  const auto like = std::find_if(results_.begin(), results_.end(),
                                 [&](const result& known) { return known.name == one.name; });
  const auto i = static_cast<std::size_t>(like - results_.begin());
  if (like == results_.end()) {
    results_.emplace_back();
    passes_.emplace_back();
    printed_.push_back(false);
  }
  passes_[i].push_back(std::move(one));
  results_[i] = merged(passes_[i]);
  if (last_pass && !printed_[i]) {
    table_.rows(results_[i], where_.backend);
    printed_[i] = true;
  }
  write_files(false, false);
}

bool report::any_failed() const {
  return std::any_of(results_.begin(), results_.end(),
                     [](const result& one) { return one.check == check_state::failed; });
}

void report::finish(bool interrupted) {
  for (std::size_t i = 0; i < results_.size(); ++i)
    if (!printed_[i]) table_.rows(results_[i], where_.backend);
  printed_.assign(results_.size(), true);
  const auto count = [&](check_state state) {
    return std::count_if(results_.begin(), results_.end(),
                         [&](const result& one) { return one.check == state; });
  };
  out_ << '\n'
       << results_.size() << (results_.size() == 1 ? " case: " : " cases: ")
       << count(check_state::ok) << " ok";
  if (const auto failed = count(check_state::failed)) out_ << ", " << failed << " FAILED";
  if (const auto skipped = count(check_state::skipped)) out_ << ", " << skipped << " skipped";
  if (interrupted) out_ << ", interrupted";
  out_ << "\nops/s and ns/op: median of the warm repetitions; cold: the first one, on a fresh "
          "heap;\n"
          "cpu: CPU time of the process, which other programs do not stretch;\n"
          "noise: another run of this build lies within this with 95 %, in cpu where it is known;\n"
          "mallocs, nulls: of all passes, and how many of them returned a null pointer;\n"
          "req/M, waits/M: requests to the host and waits for it per million mallocs;\n"
          "util: live payload / bytes of pages in use\n";
  out_.flush();
  write_files(!interrupted, true);
}

std::string report::json(bool complete) const {
  json_writer json;
  json.begin_object();
  json.member("backend", where_.backend);
  json.member("device", where_.device);
  json.member("reason", where_.reason);
  json.member("revision", where_.revision);
  json.member("complete", complete);
  json.key("machine");
  json.begin_object();
  write_fields(json, where_.environment);
  json.end_object();
  json.key("options");
  json.begin_object();
  json.member("backend", backend_option_name(wanted_.backend));
  json.member("suite", wanted_.suite);
  json.member("filter", wanted_.filter);
  json.member("passes", std::uint64_t{wanted_.pass_count()});
  json.member("repeat", std::uint64_t{wanted_.repetitions()});
  json.member("warm_up", std::uint64_t{wanted_.warm_ups()});
  json.member("threads", std::uint64_t{where_.threads});
  json.member("quick", wanted_.quick);
  json.member("reserve_bytes", std::uint64_t{where_.reserve_bytes});
  json.end_object();
  json.key("labels");
  json.begin_object();
  json.member("cold",
              "the first repetition: a fresh heap or allocator, memory that nobody touched");
  json.member("warm", "all others: a used one, memory that was touched, unless 'touched' says no");
  json.member("one_object_a", "thread, or what the member of this name in 'params' says");
  json.end_object();
  json.key("results");
  json.begin_array();
  for (const auto& one : results_) {
    json.begin_object();
    json.member("name", one.name);
    json.member("suite", one.suite);
    json.member("check", check_name(one.check));
    if (!one.detail.empty()) json.member("detail", one.detail);
    json.key("params");
    json.begin_object();
    write_fields(json, one.params);
    json.end_object();
    json.key("metrics");
    json.begin_object();
    for (const auto& timed : one.operations) {
      if (!timed.at.empty()) continue;
      json.member(timed.name + "_ops_per_s", timed.ns_per_op > 0 ? 1e9 / timed.ns_per_op : 0.0);
      json.member(timed.name + "_ns_per_op", timed.ns_per_op);
      write_optional(json, "cold_" + timed.name + "_ns_per_op", timed.cold_ns_per_op);
    }
    const heap_use& heap = one.heap;
    write_optional(json, "host_requests_per_million_mallocs",
                   heap.host_requests_per_million_mallocs);
    write_optional(json, "waits_per_million_mallocs", heap.waits_per_million_mallocs);
    write_optional(json, "in_use_bytes", heap.bytes_in_use);
    write_optional(json, "peak_bytes", heap.peak_bytes);
    write_optional(json, "utilisation_ratio", heap.utilisation);
    if (one.calls) {
      json.member("mallocs", one.calls->mallocs);
      json.member("null_pointers", one.calls->nulls);
    }
    write_fields(json, one.metrics);
    json.end_object();
    write_operations(json, one.operations);
    if (!one.curves.empty()) write_curves(json, one.curves);
    json.end_object();
  }
  json.end_array();
  json.end_object();
  return json.text() + '\n';
}

std::string report::csv() const {
  std::string out =
      "suite,case,operation,at,backend,device,revision,passes,repetitions,ns_per_op,p5_ns_per_op,"
      "p95_ns_per_op,noise_percent,cold_ns_per_op,mallocs,null_pointers,check\n";
  for (const auto& one : results_)
    for (const auto& timed : one.operations) {
      const auto number = [](double value) { return json_number(value); };
      const std::vector<double> all = all_samples(timed.passes);
      const auto noise = noise_percent(timed.passes);
      const std::string cells[] = {one.suite,
                                   one.name,
                                   timed.name,
                                   fields_text(timed.at),
                                   where_.backend,
                                   where_.device,
                                   where_.revision,
                                   std::to_string(timed.passes.size()),
                                   std::to_string(all.size()),
                                   number(timed.ns_per_op),
                                   number(quantile(all, 0.05)),
                                   number(quantile(all, 0.95)),
                                   noise ? number(*noise) : "",
                                   timed.cold_ns_per_op ? number(*timed.cold_ns_per_op) : "",
                                   one.calls ? std::to_string(one.calls->mallocs) : "",
                                   one.calls ? std::to_string(one.calls->nulls) : "",
                                   check_name(one.check)};
      bool first = true;
      for (const auto& cell : cells) {
        if (!first) out += ',';
        out += csv_quote(cell);
        first = false;
      }
      out += '\n';
    }
  return out;
}

void report::write(const target& to, const std::string& text) {
  // A regular file is replaced in one step, so that a killed run leaves the last whole version.
  const std::string written = to.rewritable ? to.name + ".part" : to.name;
  {
    std::ofstream file(written, std::ios::binary | std::ios::trunc);
    file << text;
    file.close();
    if (!file) throw std::runtime_error("can't write '" + written + "': " + std::strerror(errno));
  }
  if (to.rewritable) std::filesystem::rename(written, to.name);
}

void report::write_files(bool complete, bool last) {
  // A long file is not written after every case, or that would take longer than the cases.
  const auto begin = std::chrono::steady_clock::now();
  if (!last && begin - written_ < 20 * writing_took_
      && writing_took_ > std::chrono::milliseconds(5))
    return;
  if (!json_.name.empty() && (last || json_.rewritable)) write(json_, json(complete));
  if (!csv_.name.empty() && (last || csv_.rewritable)) write(csv_, csv());
  written_ = std::chrono::steady_clock::now();
  writing_took_ = written_ - begin;
}

}  // namespace warpheap::bench
