"""The privacy chapter's runs for other chapters: networks whose activations are replaced."""

from lib.studies.privacy.train import CALIBRATION, optimiser

__all__ = ["CALIBRATION", "optimiser"]
