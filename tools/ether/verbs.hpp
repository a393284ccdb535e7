#pragma once

/// The verbs of the program. Each function adds one or two to `app`; when the command line asks for
/// one, `job` becomes what it does.

#include "options.hpp"

namespace ether::tool {

void add_merge_verbs(CLI::App& app, Job& job);   ///< merge, unmerge
void add_export_verbs(CLI::App& app, Job& job);  ///< export-lora, export-hra
void add_init_verb(CLI::App& app, Job& job);
void add_inspect_verb(CLI::App& app, Job& job);
void add_diff_verb(CLI::App& app, Job& job);

}  // namespace ether::tool
