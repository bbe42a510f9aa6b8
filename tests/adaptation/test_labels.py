"""Labels as people have them: what they become, and what is said of those that are none."""

import numpy as np
import pytest
import torch

from fewshot_kit.adaptation.labels import read_labels
from fewshot_kit.episodes import relabel
from fewshot_kit.errors import InputError

NUMBERS = [3, 1, 3, 0]
NAMES = ["cat", "dog", "cat", "eel"]


class Series:
    """Has its values by `tolist()` and by nothing else."""

    def __init__(self, values):
        self.tolist = lambda: values


@pytest.mark.parametrize(
    "labels",
    [
        NUMBERS,
        tuple(NUMBERS),
        (label for label in NUMBERS),
        np.array(NUMBERS),
        np.array(NUMBERS, np.uint8),
        np.array(NUMBERS, object),
        np.array(NUMBERS)[:, None],
        torch.tensor(NUMBERS),
        torch.tensor(NUMBERS)[:, None],
        [[label] for label in NUMBERS],
        [torch.tensor(label) for label in NUMBERS],
        [torch.tensor([label]) for label in NUMBERS],
        [np.int64(3), torch.tensor(1), 3, np.array(0)],
        Series(NUMBERS),
    ],
)
def test_whole_numbers_become_plain_ones(labels):
    found = read_labels(labels)
    assert found == NUMBERS and {type(label) for label in found} == {int}


@pytest.mark.parametrize("labels", [NAMES, np.array(NAMES), np.array(NAMES, object), Series(NAMES)])
def test_texts_become_plain_ones(labels):
    found = read_labels(labels)
    assert found == NAMES and {type(label) for label in found} == {str}


def test_equal_values_of_different_kinds_are_one_class():
    y, classes = relabel(read_labels([torch.tensor(1), 1, np.int8(1), True, np.bool_(False), torch.tensor(0)]))
    assert y.tolist() == [1, 1, 1, 1, 0, 0] and classes == [0, 1]
    assert read_labels(np.array([True, False])) == [True, False]
    assert read_labels([("a", 1), ("b", 2)]) == [("a", 1), ("b", 2)]


@pytest.mark.parametrize(
    "targets",
    [
        [0.5, 1.5, 2],
        np.array([0.5, 1.5, 2]),
        np.array([0.5, 1.5, 2], np.float16),
        [np.float64(0.5), 1.5, 2],
        torch.tensor([0.5, 1.5, 2]),
    ],
)
def test_floats_are_targets(targets):
    found = read_labels(targets)
    assert found.dtype == torch.float32 and found.tolist() == [0.5, 1.5, 2]


def test_targets_of_several_values_keep_their_shape_and_tensors_their_dtype():
    assert read_labels([[0.5, 1.0], [0.0, 2.0]]).tolist() == [[0.5, 1.0], [0.0, 2.0]]
    assert read_labels(np.zeros((4, 1))).shape == (4, 1)
    assert read_labels(torch.zeros(3, 2, 2, dtype=torch.float64, requires_grad=True)).dtype == torch.float64


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("cat", "The labels are 'cat', of type str; give one label for each example, in a list."),
        (7, "The labels are 7, of type int"),
        (torch.tensor(7), "The labels are 7, of type int"),
        (torch.tensor(7.0), "The labels are 7.0, of type float"),
        ({"a", "b"}, "of type set; give one label for each example"),
        ({"a": 1}, "of type dict"),
        (["a", None, "b", None], "2 of the 4 labels are missing (label 1 is None); give them, or leave these"),
        (np.array(["a", None]), "1 of the 2 labels are missing (label 1 is None)"),
        (["a", float("nan")], "label 1 is nan"),
        ([0.5, float("nan")], "label 1 is nan"),
        (torch.tensor([0.5, float("nan")]), "1 of the 2 targets are NaN or infinite (the first is number 1)"),
        (
            np.array([[0.5, 1], [np.inf, 1], [np.nan, 2]]),
            "2 of the 3 targets are NaN or infinite (the first is number 1)",
        ),
        (np.eye(3)[[0, 2, 1, 1]], "The labels [4, 3] are one-hot rows; give the classes' numbers, labels.argmax(1)."),
        (torch.eye(3, dtype=torch.long), "The labels [3, 3] are one-hot rows"),
        ([[0, 1], [1, 0]], "The labels [2, 2] are one-hot rows"),
        ([[True, False]], "The labels [1, 2] are one-hot rows"),
        (
            torch.ones(4, 2, dtype=torch.long),
            "The labels have shape [4, 2]; give one label for each example, shape [4].",
        ),
        ([1, [2, 3]], "Label 1 is the list [2, 3]; give one label for each example"),
        ([["a"], ["b", "c"]], "Label 0 is the list ['a']"),
        (["a", {"b"}], "Label 1 is {'b'}, of type set; give ints or strings"),
    ],
)
def test_what_is_refused(labels, said):
    with pytest.raises(InputError) as caught:
        read_labels(labels)
    assert said in str(caught.value) and str(caught.value).count("\n") == 0


def test_columns_of_pandas():
    pandas = pytest.importorskip("pandas")
    names, numbers = pandas.Series(NAMES, index=[9, 8, 7, 6]), pandas.Series(NUMBERS, dtype="Int64")
    for labels in (names, names.astype("category"), pandas.Index(NAMES), names.to_frame()):
        assert read_labels(labels) == NAMES
    assert read_labels(numbers) == NUMBERS and {type(label) for label in read_labels(numbers)} == {int}
    assert read_labels(pandas.DataFrame({"label": NUMBERS})) == NUMBERS
    for labels in (pandas.Series(["a", None]), pandas.Series([1, None], dtype="Int64"), pandas.Series([1, None])):
        with pytest.raises(InputError, match="1 of the 2"):
            read_labels(labels)
