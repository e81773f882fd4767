"""Pictures are made batch by batch, and keep no more than they draw."""

import torch

from PACKAGE.training.pictures import Confusion, Mistakes, Pixels, Scatter


def classes(logits):
    return logits.argmax(dim=1)


def test_confusions_of_many_batches_are_counted():
    picture, targets = Confusion(classes, 3), torch.tensor([0, 1, 2, 2])
    for part in (slice(0, 3), slice(3, 4)):
        picture.update(None, targets[part], torch.eye(3)[[0, 2, 2, 1]][part])
    assert picture.counts is not None
    assert picture.counts.view(3, 3).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 1]]


def test_of_many_classes_no_numbers_are_written():
    def texts(count):
        picture = Confusion(classes, count)
        picture.update(None, torch.arange(count), torch.eye(count))
        figure = picture.draw()
        assert figure
        return len(figure.axes[0].texts)

    assert texts(30) == 30
    assert texts(1000) == 0


def test_only_the_first_mistakes_are_kept():
    picture = Mistakes(classes, most=2)
    for _ in range(3):
        picture.update(
            torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 1, 0]), torch.eye(2)[[0, 0, 1, 0]]
        )
    images, targets, decoded = picture.columns()
    assert (images.shape, targets.tolist(), decoded.tolist()) == ((2, 1, 8, 8), [1, 1], [0, 0])
    assert picture.draw()


def test_no_mistake_is_said_and_what_is_no_image_is_not_drawn():
    picture = Mistakes(classes)
    picture.update(torch.rand(2, 3, 8, 8), torch.tensor([0, 1]), torch.eye(2))
    figure = picture.draw()
    assert figure
    assert figure.axes[0].get_title() == "no mistakes"
    picture = Mistakes(classes)
    picture.update({"tokens": torch.rand(2, 3)}, torch.tensor([1, 0]), torch.eye(2))
    assert picture.draw() is None


def test_samples_side_by_side_are_no_more_than_fit():
    picture = Pixels(lambda maps: maps[:, 0], largest=None, most=3)
    for _ in range(2):
        picture.update(torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8))
    assert len(picture.draw().axes) == 9
    points = Scatter(lambda numbers: numbers, most=5)
    for _ in range(3):
        points.update({"any": 1}, torch.rand(4, 1), torch.rand(4, 1))
    assert sum(len(targets) for _, targets, _ in points.kept) == 5
    assert points.draw()
