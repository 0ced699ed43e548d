"""What people's data and files of weights do: every case, the tests that hold it, and their outcome.

python benchmarks/cases.py [GROUP ...] [--of data|weights] [--list] [--slow]

Runs the tests that are named below with pytest and prints a table of cases: passed, failed, skipped, or no test. GROUP
is a letter, or several (`A B`), of the table `data` (default) or `weights`; `--list` prints the table without running
anything; `--slow` includes slow tests.
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

WEIGHTS = """
A1 | a schedule's Counter beside the weights | test_open_files::test_objects_beside_the_weights_are_left_aside
A2 | an optimizer, its class, a partial of it | test_open_files::test_objects_beside_the_weights_are_left_aside
A3 | settings of a package that is not installed | test_open_files::test_objects_beside_the_weights_are_left_aside test_open_files::test_a_state_dict_in_an_unknown_class
A4 | a version, a date | test_open_files::test_objects_beside_the_weights_are_left_aside
A5 | a loss, a model, a transform | test_open_files::test_objects_beside_the_weights_are_left_aside test_open_files::test_outputs_with_objects_beside
A6 | numbers of NumPy, paths, sets, functions | test_open_files::test_objects_beside_the_weights_are_left_aside
A7 | dill as the pickler | test_other_code::test_classes_by_the_names_of_dill
A8 | commands as reducers | test_open_files::test_functions_that_run_commands_are_refused_and_not_executed test_open_files::test_unknown_functions_are_not_called
B1 | one known prefix | test_readers::test_prefixes_of_wrapping_modules_are_removed
B2 | two or three levels | test_open_files::test_prefixes_of_any_depth
B3 | a detection model | test_open_files::test_a_detection_model_gives_its_trunk
B4 | an encoder of MoCo | test_open_files::test_a_key_reaches_dicts_and_modules
B5 | a normalizer in front | test_open_files::test_a_normalizer_before_the_network_is_warned_of
B6 | children in a Sequential | test_other_code::test_children_of_a_network_in_a_sequence
B7 | left and right | test_open_files::test_two_networks_without_a_default_are_refused
B8 | a prefix by hand | test_open_files::test_two_networks_without_a_default_are_refused test_open_files::test_loading_into_a_model_takes_a_prefix
C1 | model and model_ema | test_open_files::test_averaged_weights_are_not_passed_over
C2 | averages under other names | test_open_files::test_averaged_weights_are_not_passed_over test_open_files::test_other_words_are_no_averages
C3 | student and teacher | test_open_files::test_a_key_reaches_dicts_and_modules
C4 | two encoders and a queue | test_open_files::test_a_key_reaches_dicts_and_modules
C5 | a key with dots | test_open_files::test_a_key_reaches_dicts_and_modules
C6 | dicts in dicts | test_open_files::test_a_network_at_any_depth
C7 | a Keras file with two backbones | test_open_files::test_two_backbones_in_a_keras_file
D1 | fc.1 | test_open_files::test_linear_heads_are_kept
D2 | projectors, prototypes | test_open_files::test_other_heads_are_left_out_of_the_trunk test_open_files::test_linear_heads_are_kept
D3 | a loss, a metric | test_open_files::test_losses_and_metrics_are_named_and_left_aside
D4 | head.fc; a flattened map | test_open_files::test_linear_heads_are_kept test_open_files::test_other_heads_are_left_out_of_the_trunk
D5 | segmentation | test_open_files::test_other_heads_are_left_out_of_the_trunk[segmentation]
D6 | a norm before the classifier | test_open_files::test_other_heads_are_left_out_of_the_trunk[norm]
D7 | several branches | test_open_files::test_other_heads_are_left_out_of_the_trunk[several]
D8 | layers inside of blocks | test_open_files::test_layers_inside_of_blocks_are_no_head test_open_files::test_strict_false_warns_where_the_outputs_are_not_the_files
D9 | dense layers on a Keras model | test_infer::test_head_of_a_keras_file_is_kept_or_left_out
E1 | one name by hand | test_open_files::test_names_by_hand_add_to_a_dialect
E2 | names of the stem by hand | test_open_files::test_names_by_hand_add_to_a_dialect
E3 | a literal unit | test_open_files::test_names_by_hand_add_to_a_dialect
E4 | names that are not there | test_open_files::test_names_by_hand_that_are_not_in_the_file
E5 | names by hand for a Keras file | test_infer::test_names_by_hand_do_not_overrule_the_graph
F1 | blocks in one run | test_infer::test_unknown_names_are_read_by_order_and_shapes
F2 | stem.0, blocks.N | test_infer::test_unknown_names_are_read_by_order_and_shapes
F3 | the shortcut before the units | test_infer::test_order_of_layers_within_a_block_may_differ
F4 | no tensors of shortcuts | test_infer::test_unknown_names_that_tell_too_little_are_refused
F5 | a list of convolutions, pooled shortcuts | test_other_code::test_pooled_shortcuts_of_blocks_in_a_list
F6 | norms after all convolutions | test_infer::test_order_of_layers_within_a_block_may_differ
F7 | a third norm | test_infer::test_unknown_names_that_tell_too_little_are_refused
F8 | the last convolution widens | test_infer::test_last_convolution_that_widens_is_refused
F9 | another stem, projections of 3x3 | test_other_code::test_another_name_of_the_stem_and_the_kernel_of_projections
F10 | pre-activation without a last norm | test_other_code::test_norms_before_the_convolutions_under_the_names_of_others
F11 | AdderNet | test_infer::test_unknown_names_that_tell_too_little_are_refused
F12 | sorted by name | test_infer::test_unknown_names_that_tell_too_little_are_refused
G1 | keras.io's ResNet v1 | test_infer::test_keras_file_is_read_through_its_graph
G2 | keras.io's ResNet v2 | test_infer::test_keras_file_is_read_through_its_graph
G3 | MLPerf Tiny's ResNet-8 | test_infer::test_keras_file_is_read_through_its_graph
G4 | a whole map by hand | test_infer::test_names_by_hand_do_not_overrule_the_graph
G5 | padding on one side | test_infer::test_keras_file_is_read_through_its_graph
G6 | a bare projection | test_infer::test_keras_file_is_read_through_its_graph
G7 | nested, flat, in a Sequential | test_infer::test_keras_file_is_read_through_its_graph test_infer::test_trunk_of_a_keras_file_is_loaded
G8 | weights without a graph | test_infer::test_keras_weights_without_a_graph_are_refused
G9 | Theano | test_open_files::test_theano_is_named test_infer::test_kernels_in_the_order_of_theano_are_named
G10 | layers that the zoo has not | test_infer::test_layer_that_no_spec_describes_is_named
G11 | scaling in front of the network | test_other_code::test_scaling_in_front_of_a_network_is_named
H1 | group norm of 32 | test_infer::test_norms_without_statistics_are_refused_unless_the_groups_are_told
H2 | other groups | test_infer::test_norms_without_statistics_are_refused_unless_the_groups_are_told
H3 | instance norm | test_infer::test_norms_without_statistics_are_refused_unless_the_groups_are_told
H4 | batch norm without tracking | test_infer::test_norms_without_statistics_are_refused_unless_the_groups_are_told test_open_files::test_whole_models_of_other_networks_are_refused_by_name
H5 | norms without scale | test_infer::test_norms_without_scale_are_read
H6 | as weights of a builder | test_infer::test_norms_without_statistics_are_refused_unless_the_groups_are_told
H7 | instance norm with statistics | test_other_code::test_instance_norms_with_statistics_are_batch_norms
I1 | zeros behind the channels | test_infer::test_common_alternatives_are_warned_of_and_listed test_infer::test_outputs_settle_what_the_file_does_not_tell
I2 | average pooling, then zeros | test_infer::test_outputs_settle_what_the_file_does_not_tell
I3 | no shortcut | test_infer::test_outputs_settle_what_the_file_does_not_tell
I4 | other activations | test_infer::test_outputs_settle_what_the_file_does_not_tell
I5 | epsilon | test_infer::test_two_answers_at_once_and_changed_inputs_are_settled
I6 | stride of the stem | test_infer::test_outputs_settle_what_the_file_does_not_tell
I7 | strides of the stages | test_infer::test_outputs_settle_what_the_file_does_not_tell
I8 | a projection in the first stage | test_infer::test_projection_of_the_first_stage_tells_its_stride
I9 | a stem without stride or pool | test_infer::test_outputs_settle_what_the_file_does_not_tell
I10 | padding by reflection | test_infer::test_the_nearest_network_is_not_taken
I11 | order of channels | test_infer::test_two_answers_at_once_and_changed_inputs_are_settled
J1 | whole models | test_open_files::test_whole_models_tell_their_settings
J2 | what attributes do not tell | test_other_code::test_whole_models_tell_pools_and_what_they_lack
J3 | TorchScript, FX | test_open_files::test_scripted_and_traced_models
J4 | quantized tensors | test_open_files::test_quantized_networks_are_named
K1 | ONNX | test_onnx
K2 | TFLite | test_readers::test_refused_files
K3 | arrays of NumPy | test_open_files::test_arrays_of_numpy test_open_files::test_arrays_of_objects_are_refused
K4 | TensorFlow | test_tensorflow_files
K5 | Flax, Haiku, Orbax | test_jax_names test_open_files::test_folders_of_other_libraries_are_named
K6 | packed files, JSON | test_readers::test_refused_files
K7 | big arrays in a pickle | test_open_files::test_arrays_of_numpy
K8 | tensors in pairs, expanded, in plain pickles | test_other_code::test_tensors_in_other_containers test_other_code::test_plain_pickles_of_tensors
L1 | a part of a file | test_open_files::test_parts_of_files
L2 | whole numbers as kernels | test_open_files::test_quantized_networks_are_named test_other_code::test_kernels_of_other_types_are_named
L3 | weights in parts | test_open_files::test_weights_in_parts_are_put_together
L4 | kernels of three dimensions | test_open_files::test_kernels_of_other_dimensions_are_named
L5 | pruned blocks | test_open_files::test_pruned_blocks_are_named
L6 | Res2Net and others | test_open_files::test_layers_inside_of_blocks_are_no_head test_other_code::test_layers_that_the_zoo_has_not_are_named
L7 | other kinds of networks | test_open_files::test_other_kinds_of_networks_are_named test_other_code::test_networks_that_only_look_residual_are_refused
L8 | reszoo info | test_open_files::test_a_description_lists_networks_layers_and_what_is_left_aside test_open_files::test_the_command_prints_json
L9 | other channels | test_weights::test_the_first_convolution_is_adapted_to_other_channels
L10 | negative variances | test_open_files::test_negative_variances_are_warned_of
L11 | strict=False where kernels are missing | test_open_files::test_strict_false_warns_where_the_outputs_are_not_the_files
L12 | shapes as the file has them | test_open_files::test_shapes_in_messages_are_those_of_the_file
M1 | files of libraries | test_weights::test_network_and_logits_from_a_checkpoint_alone test_weights::test_a_network_in_a_dialect_is_detected_and_read_back
M2 | wrappers, types, shards | test_readers::test_wrapped_networks_are_unwrapped test_readers::test_types_and_views_of_pytorch_files test_readers::test_safetensors_shards_and_folders
M3 | damaged files | test_readers::test_damaged_files_are_read_or_refused test_readers::test_refused_zip_archives test_readers::test_refused_pickles
"""  # noqa: E501

TABLES = {"data": CASES, "weights": WEIGHTS}


def cases(table="data"):
    """Returns (case, text, tests) of every line."""
    lines = (line.split("|") for line in TABLES[table].strip().splitlines())
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
    parser.add_argument("--of", choices=[*TABLES], default="data", help="the table of cases")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--slow", action="store_true")
    arguments = parser.parse_args()
    chosen = [
        case for case in cases(arguments.of) if not arguments.group or case[0].rstrip("0123456789") in arguments.group
    ]
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
