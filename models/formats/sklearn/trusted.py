"""The types that a .skops file may hold beyond those that skops trusts, each one named.

Never a whole package: skops may construct or call what is trusted, and numpy and scipy have functions
that run text as code. All of these only hold a fitted estimator's numbers or compute with them.
"""

_SKLEARN = (
    # skops warns of the two trees: they index their arrays without checks, so a forged file may crash the
    # process. It cannot run code, and without them no forest or boosting would load.
    "tree._tree.Tree",
    "ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "_loss.loss.HalfTweedieLoss",
    "_loss.loss.HalfTweedieLossIdentity",
    "calibration._CalibratedClassifier",
    "calibration._SigmoidCalibration",
    "calibration._TemperatureScaling",
    "cluster._bisect_k_means._BisectingTree",
    "cluster._kmeans._kmeans_single_elkan",
    "cluster._kmeans._kmeans_single_lloyd",
    "compose._column_transformer.make_column_selector",
    "feature_selection._univariate_selection.chi2",
    "feature_selection._univariate_selection.f_classif",
    "feature_selection._univariate_selection.f_regression",
    "feature_selection._mutual_info.mutual_info_classif",
    "feature_selection._mutual_info.mutual_info_regression",
    "gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    *(
        f"gaussian_process.kernels.{kernel}"
        for kernel in (
            "CompoundKernel",
            "ConstantKernel",
            "DotProduct",
            "ExpSineSquared",
            "Exponentiation",
            "Matern",
            "PairwiseKernel",
            "Product",
            "RBF",
            "RationalQuadratic",
            "Sum",
            "WhiteKernel",
        )
    ),
    "impute._iterative.IterativeImputer",
    "impute._iterative._ImputerTriplet",
    "metrics._classification.balanced_accuracy_score",
    *(
        f"metrics._dist_metrics.{metric}Distance{bits}"
        for metric in ("Chebyshev", "Euclidean", "Manhattan", "Minkowski", "SEuclidean")
        for bits in (32, 64)
    ),
    "metrics._scorer._CurveScorer",
    "metrics._scorer._PassthroughScorer",
    "metrics._scorer._Scorer",
    "model_selection._split.KFold",
    "model_selection._split.StratifiedKFold",
    "neighbors._ball_tree.BallTree",
    "neighbors._ball_tree.BallTree32",
    "neighbors._ball_tree.BallTree64",
    "neighbors._kd_tree.KDTree",
    "neighbors._kd_tree.KDTree32",
    "neighbors._kd_tree.KDTree64",
    "neural_network._stochastic_optimizers.AdamOptimizer",
    "neural_network._stochastic_optimizers.SGDOptimizer",
    "utils._bunch.Bunch",
    "utils._metadata_requests.MetadataRequest",
    "utils._metadata_requests.MethodMetadataRequest",
    "utils.validation.check_array",
)
# partials and scorers call only trusted functions; boosting over a DataFrame's categories has a partial of check_array
_OTHERS = {
    "collections.OrderedDict",
    "functools.partial",
    "numpy.dtype",
    "numpy.mean",
    "numpy.number",
    # SplineTransformer's: coefficients, and a function that makes an array of numbers
    "scipy._lib.array_api_compat.numpy._aliases.asarray",
    "scipy.interpolate._bsplines.BSpline",
}
TRUSTED = frozenset({f"sklearn.{name}" for name in _SKLEARN} | _OTHERS)
