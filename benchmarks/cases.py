"""What people's data do to a run: every case, the tests that hold it, and their outcome.

python benchmarks/cases.py [GROUP ...] [--list] [--slow]

Runs the tests that are named below with pytest and prints a table of cases: passed, failed, skipped, or no test. GROUP
is a letter, or several (`A B`); `--list` prints the table without running anything; `--slow` includes slow tests.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent

# Case | in a few words | tests: file::function, or file::function[parameters]; several with a space between.
CASES = """
A1 | other values of x under the same run folder | test_runs::test_run_folder_belongs_to_its_data
A2 | labels shuffled or renumbered | test_runs::test_run_folder_belongs_to_its_data test_runs::test_digest_names_what_differs
A3 | five folds into one folder | test_runs::test_digest_names_what_differs test_runs::test_cross_validation_has_a_folder_for_each_fold
A4 | another seed of the split | test_runs::test_digest_names_what_differs
A5 | pictures exchanged or replaced | test_runs::test_digest_of_files_depends_on_their_content_and_not_on_their_place
A6 | a table edited, or another target | test_runs::test_digest_names_what_differs
A7 | the same data again | test_runs::test_run_folder_belongs_to_its_data test_runs::test_finished_run_is_returned_without_keras
A8 | two programs in one folder | test_runs::test_second_process_is_refused_and_a_killed_one_leaves_no_lock
A9 | more epochs | test_runs::test_more_epochs_extend_a_run
A10 | another rate, batch or augmentation | test_runs::test_run_folder_belongs_to_its_data
A11 | a full disk, a read-only folder | test_training::test_folder_with_other_files_is_not_touched
A12 | kill -9 and the same command | test_training::test_interrupted_runs_resume_to_the_same_result
A13 | memory over twenty epochs | test_runs::test_twenty_epochs_need_no_more_memory_than_ten
B1 | missing values | test_tables::test_a_missing_number_is_the_median_of_the_training_rows test_tables::test_a_missing_word_is_a_word
B2 | a word among numbers | test_tables::test_a_word_among_numbers_is_refused test_tables::test_nine_tenths_decide_whether_a_column_is_one_of_numbers
B3 | a price as target | test_tables::test_targets_that_are_no_classes_are_refused
B4 | an empty label | test_tables::test_rows_without_a_label_are_left_out
B5 | no line of names | test_tables::test_malformed_files_are_refused test_tables::test_columns_may_be_numbered
B6 | columns in another order | test_tables::test_further_tables_are_encoded_as_in_training
B7 | an unknown word | test_tables::test_unknown_words_are_zero_in_every_feature
B8 | a word fewer or more | test_tables::test_further_tables_are_encoded_as_in_training test_table_runs::test_evaluate_encodes_a_table_as_in_training
B9 | a column fewer or more | test_tables::test_tables_that_do_not_fit_are_refused
B10 | a test file without the target | test_tables::test_tables_that_do_not_fit_are_refused
B11 | predict on a table | test_table_runs::test_predict_takes_a_row_for_every_row
B12 | semicolons, tabs, decimal commas | test_tables::test_separators_and_ends_of_lines test_tables::test_decimal_commas
B13 | a byte order mark | test_tables::test_byte_order_marks
B14 | latin-1 | test_tables::test_malformed_files_are_refused[latin-1]
B15 | a column of names or dates | test_tables::test_columns_that_say_nothing_are_left_out
B16 | one label only | test_data::test_data_without_validation_are_refused_before_work
B17 | 1, 1.0 and 01 as labels | test_tables::test_one_number_is_one_class
B18 | .tsv, .csv.gz, data frames | test_tables::test_suffixes test_tables::test_data_frames_are_read_as_files_are
C1 | EXIF orientation | test_data::test_pictures_are_upright
C2 | 16 bits of gray | test_data::test_a_picture_is_what_a_viewer_shows
C3 | a float TIFF | test_data::test_a_picture_is_what_a_viewer_shows test_data::test_a_file_that_is_no_picture_has_a_reason
C4 | 32-bit integers | test_data::test_a_file_that_is_no_picture_has_a_reason[32 bit.tif]
C5 | transparent parts | test_data::test_a_picture_is_what_a_viewer_shows
C6 | AVIF, HEIC; GIF | test_data::test_pictures_are_upright test_data::test_a_plugin_for_heic_is_used_where_it_is_installed
C7 | CMYK, palettes, wrong suffixes | test_data::test_a_picture_is_what_a_viewer_shows
C8 | very thin pictures | test_data::test_a_picture_is_what_a_viewer_shows[line.png]
C9 | arrays of another shape than the size | test_data::test_arrays_are_cropped_to_the_central_square
C10 | gray weights on a folder | test_data::test_gray_and_color_on_request
C11 | the size of a folder's pictures | test_training::test_train_command_on_an_image_folder
C12 | embedded color profiles | test_data::test_colors_of_an_embedded_profile_become_those_of_srgb test_data::test_a_profile_of_srgb_changes_nothing
D1 | trained on uint8, evaluated on floats | test_predict::test_the_same_pixels_give_the_same_predictions
D2 | published weights on floats to 255 or uint16 | test_predict::test_one_rule_for_ranges
D3 | augmentation of floats | test_runs::test_rand_augment_sees_the_range_of_the_pixels
D4 | mean and deviation of many floats | test_data::test_mean_and_deviation_are_summed_in_double_precision
D5 | floats from -1 to 1 | test_predict::test_one_rule_for_ranges test_data::test_range_of_values
D6 | NaN in pictures, NaN as loss | test_data::test_a_mistake_names_the_remedy[NaN] test_training::test_non_finite_loss_ends_the_run
E1 | classes named by numbers | test_data::test_folders_named_by_numbers_match_arrays_by_name test_predict::test_a_number_is_a_name
E2 | several ones in a row | test_data::test_labels_that_are_refused[tags]
E3 | soft labels | test_data::test_labels_that_are_refused[soft]
E4 | one-hot arrays | test_data::test_labels_by_one_rule
E5 | words as labels | test_data::test_labels_by_one_rule
E6 | whole floats, booleans, -1 and 1 | test_data::test_labels_by_one_rule
E7 | labels from 1, or in tens | test_data::test_labels_by_one_rule
E8 | image_dataset_from_directory | test_data::test_class_names_of_a_stream test_data::test_a_folder_by_way_of_keras_is_the_folder
E9 | a class missing in validation | test_training::test_separate_sources_for_validation_and_test
E10 | other class names in evaluation | test_evaluate::test_classes_are_matched_by_name
F1 | words for parts | test_data::test_parts_by_the_names_that_people_give_them
F2 | train, valid, test | test_data::test_parts_by_the_names_that_people_give_them
F3 | two halves with the same folders | test_data::test_classes_and_notes_of_a_folder[two_halves]
F4 | a class named train or test | test_data::test_classes_and_notes_of_a_folder
F5 | hidden folders | test_data::test_classes_and_notes_of_a_folder[hidden_folders]
F6 | folders of the system | test_data::test_classes_and_notes_of_a_folder[system_folders]
F7 | an empty class folder | test_data::test_classes_and_notes_of_a_folder[empty_class]
F8 | odd names | test_data::test_classes_and_notes_of_a_folder[odd_names]
G1 | a tenth of three examples | test_data::test_of_every_class_with_two_examples_one_is_held_out
G2 | a class of one example | test_data::test_data_without_validation_are_refused_before_work
G3 | an empty validation part | test_runs::test_mistakes_are_refused_before_any_work
H1 | averages in mixed precision | test_runs::test_best_network_is_the_one_validated_best
H2 | layer decay in mixed precision | test_runs::test_best_network_is_the_one_validated_best
H3 | layer decay with averages | test_runs::test_best_network_is_the_one_validated_best
H4 | a last batch of one | test_runs::test_small_last_training_batch_is_left_out
H5 | the rate that is logged | test_runs::test_more_epochs_extend_a_run
H6 | mixing in a last batch | test_runs::test_mixing_keeps_labels_in_proportion
I1 | a linked folder | test_data::test_links_are_followed_or_named
I2 | a link to nowhere | test_data::test_links_are_followed_or_named
I3 | damaged files in training | test_data::test_a_file_that_is_no_picture_has_a_reason
I4 | one bad file at predict | test_predict::test_one_bad_file_ends_nothing
I5 | hidden folders at predict | test_predict::test_one_bad_file_ends_nothing
I6 | a picture that vanishes | test_data::test_a_picture_that_vanishes_is_named
I7 | copies | test_data::test_copies_are_counted_and_stay_on_one_side test_data::test_copies_across_parts_are_noted
I8 | files that are not there | test_predict::test_a_missing_file_is_named_before_keras_is_imported
J1 | pairs of pairs | test_data::test_forms_of_arrays[pairs]
J2 | a dict, a list | test_data::test_forms_of_arrays
J3 | pictures of different sizes | test_data::test_a_mistake_names_the_remedy[different sizes]
J4 | weights in batches and arrays | test_sample_weights
J5 | batches as dicts | test_data::test_a_mistake_names_the_remedy[dicts]
J6 | no .batch() | test_data::test_a_mistake_names_the_remedy[single examples]
J7 | channels first | test_data::test_a_mistake_names_the_remedy test_data::test_a_data_loader_is_channels_first
J8 | a generator without end | test_data::test_a_mistake_names_the_remedy[endless] test_data::test_streams_larger_than_half_of_the_memory_are_refused
J9 | predict on lists and arrays | test_predict::test_one_bad_file_ends_nothing test_predict::test_single_images_and_other_channels
J10 | reestimate_norm on an array | test_predict::test_reestimate_norm_takes_an_array
J11 | brackets in names | test_predict::test_names_are_printed_as_they_are test_runs::test_commands_continue_a_run_and_refuse_mistakes
J12 | a seed below 0 | test_runs::test_mistakes_are_refused_before_any_work
J13 | no epochs | test_runs::test_commands_continue_a_run_and_refuse_mistakes
J14 | widths below the stem | test_runs::test_mistakes_are_refused_before_any_work
J15 | a network for other data | test_runs::test_mistakes_are_refused_before_any_work
J16 | a file instead of a terminal | test_runs::test_one_line_an_epoch_without_a_terminal
K1 | preprocessing after replace_head | test_predict::test_facts_survive_whatever_makes_another_network
K2 | preprocessing after load_model | test_predict::test_facts_survive_whatever_makes_another_network
K3 | preprocessing inside of a model | test_predict::test_replace_head_keeps_dtype_policy_and_preprocessing_layers
K4 | the dtype policy | test_predict::test_replace_head_keeps_dtype_policy_and_preprocessing_layers
K5 | weights bring their scaling | test_predict::test_weights_bring_their_own_scaling
K6 | a configuration beside weights | test_predict::test_a_configuration_beside_weights_says_how_to_scale
K7 | a model of one's own fit() | test_predict::test_save_names_what_is_missing test_predict::test_a_saved_file_opens_without_reszoo
K8 | which examples evaluate takes | test_predict::test_protocol_says_whether_the_network_has_seen_the_examples
K9 | a network as a layer | test_predict::test_facts_survive_whatever_makes_another_network
L1 | defaults for few photos | test_runs::test_defaults_follow_the_number_of_examples
L2 | the largest class as a control | test_runs::test_remarks_say_what_a_result_is_worth
L3 | pretrained weights first | test_runs::test_remarks_say_what_a_result_is_worth
L4 | a class that is never taken | test_predict::test_a_class_that_is_never_predicted_has_a_dash_and_a_note
L5 | strict JSON | test_predict::test_json_is_strict
L6 | predictions with more than one class | test_predict::test_predictions_as_files test_predict::test_predict_command
L7 | short representations | test_training::test_results_have_short_representations
M | fit() of one's own | test_fine_tune test_predict::test_softmax_of_one_class_is_refused
"""  # noqa: E501


def cases():
    """Returns (case, text, tests) of every line."""
    lines = (line.split("|") for line in CASES.strip().splitlines())
    return [(name.strip(), text.strip(), _tests(tests)) for name, text, tests in lines]


def _tests(text):
    """The tests of a line; a name of parameters may hold blanks."""
    return re.findall(r"test_\w+(?:::test_\w+(?:\[[^\]]*\])?)?", text)


def _node(test):
    file, _, function = test.partition("::")
    return f"tests/{file}.py" + (f"::{function}" if function else "")


def run(tests, *, slow):
    """Returns the outcomes (passed, failed, skipped) by file and function, with and without parameters."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        marks = [] if slow else ["-m", "not slow"]
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", f"--basetemp={folder}/tests", *marks]
        subprocess.run([*command, *sorted({_node(test) for test in tests})], cwd=ROOT, stdout=subprocess.DEVNULL)
        found = ElementTree.parse(report).iter("testcase") if report.exists() else []
        outcomes = {}
        for case in found:
            file, name = case.get("classname").rpartition(".")[2], case.get("name")
            kinds = {child.tag for child in case}
            outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
            for key in {file, f"{file}::{name}", f"{file}::{name.partition('[')[0]}"}:
                outcomes.setdefault(key, []).append(outcome)
    return outcomes


def outcome_of(tests, outcomes):
    """Returns the outcome of a case in words."""
    if not tests:
        return "no test"
    counts = Counter(outcome for test in tests for outcome in outcomes.get(test, ["not run"]))
    if counts["failed"]:
        return f"FAILED {counts['failed']} of {sum(counts.values())}"
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--slow", action="store_true")
    arguments = parser.parse_args()
    chosen = [case for case in cases() if not arguments.group or case[0].rstrip("0123456789") in arguments.group]
    outcomes = {} if arguments.list else run([test for _, _, tests in chosen for test in tests], slow=arguments.slow)
    results = Counter()
    for name, text, tests in chosen:
        result = ", ".join(tests) or "no test" if arguments.list else outcome_of(tests, outcomes)
        results[result.partition(" ")[0] if result.startswith(("FAILED", "no test")) else "held"] += 1
        print(f"{name:<4} {text:<48} {result}")
    if not arguments.list:
        print(f"\n{len(chosen)} cases: " + ", ".join(f"{count} {word}" for word, count in results.items()))


if __name__ == "__main__":
    main()
