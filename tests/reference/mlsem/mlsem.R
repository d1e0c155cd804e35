# ML-SEMs by lavaan that the simulated reference set does not hold: both directions jointly, robust
# errors, a further exogenous series and a covariate.  Rscript mlsem.R ; writes lavaan.json
suppressMessages({library(lavaan); library(jsonlite)})
here <- dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE)))
series <- c(a = "alliance", s = "symptoms", h = "hours")
sessions <- 7

# Columns made from numbers alone, so that another program can make them too.
extend <- function(d) {
  for (t in 1:sessions) {
    hours <- ((7 * d$client + 3 * t^2 + d$client %/% 9 * t) %% 13) / 4
    d[[paste0("hours_", t)]] <- ifelse(is.na(d[[paste0("symptoms_", t)]]), NA, hours)
  }
  d$severity <- ifelse(d$client %% 20 == 0, NA, ((37 * d$client) %% 11) / 5 - 1)
  d
}
canonical <- function(label) {
  p <- strsplit(label, "_")[[1]]
  family <- c(phi = "phi", i = "intercept", p = "innovation_cov", v = "residual_var", b = "between_cov",
              c = "between", f = "initial_cov", x = "initial_between_cov", m = "mean")[[p[1]]]
  letters <- strsplit(p[2], "")[[1]]
  index <- if (family == "between") c(series[[letters[1]]], "severity") else unname(series[letters])
  paste0(family, "[", paste(index, collapse = ","), "]", if (length(p) > 2) paste0("@", p[3]) else "")
}
equations <- function(targets, predictors, errors, covariate) {
  o <- character(); add <- function(...) o <<- c(o, sprintf(...))
  for (i in targets) add("al_%s =~ %s", i, paste0("1*", series[[i]], "_", 2:sessions, collapse = " + "))
  for (i in targets) add("al_%s ~ 0*1", i)
  for (j in seq_along(targets)) for (k in j:length(targets))
    add("al_%s ~~ b_%s%s*al_%s", targets[j], targets[j], targets[k], targets[k])
  for (t in 2:sessions) for (i in targets) {
    right <- paste0("phi_", i, predictors, "*", series[predictors], "_", t - 1, collapse = " + ")
    if (covariate) right <- paste0(right, " + c_", i, "*severity")
    add("%s_%d ~ %s", series[[i]], t, right)
    add("%s_%d ~ i_%s_%d*1", series[[i]], t, i, t)
  }
  at <- function(t) if (errors == "equal") "" else paste0("_", t)
  for (t in 2:sessions) if (length(targets) == 1) add("symptoms_%d ~~ v_s%s*symptoms_%d", t, at(t), t) else {
    add("alliance_%d ~~ p_aa%s*alliance_%d + p_as%s*symptoms_%d", t, at(t), t, at(t), t)
    add("symptoms_%d ~~ p_ss%s*symptoms_%d", t, at(t), t)
  }
  o
}
free <- function(columns, effects) {
  o <- character()
  for (i in seq_along(columns))
    o <- c(o, paste(columns[i], "~~", paste(columns[i:length(columns)], collapse = " + ")), paste(columns[i], "~ 1"))
  c(o, paste(effects, "~~", paste(setdiff(columns, "severity"), collapse = " + ")))
}
one <- function(wait) if (is.na(wait)) character() else unlist(lapply(2:(sessions - 1), function(t)
  if (t + wait < sessions) paste0("symptoms_", t, " ~~ ", paste0("alliance_", (t + wait):(sessions - 1), collapse = " + "))))

forward <- function(errors, wait, extra) {
  columns <- c("symptoms_1", paste0("alliance_", 1:(sessions - 1)))
  if (extra) columns <- c(columns, paste0("hours_", 1:(sessions - 1)), "severity")
  c(equations("s", c("a", "s", if (extra) "h"), errors, extra), free(columns, "al_s"), one(wait))
}
both <- function(errors, extra) {
  o <- c(equations(c("a", "s"), c("a", "s", if (extra) "h"), errors, extra),
    "alliance_1 ~~ f_aa*alliance_1 + f_as*symptoms_1", "symptoms_1 ~~ f_ss*symptoms_1",
    "alliance_1 ~ m_a_1*1", "symptoms_1 ~ m_s_1*1",
    "al_a ~~ x_aa*alliance_1 + x_sa*symptoms_1", "al_s ~~ x_as*alliance_1 + x_ss*symptoms_1")
  if (!extra) return(o)
  columns <- c(paste0("hours_", 1:(sessions - 1)), "severity")
  c(o, free(columns, c("al_a", "al_s")), paste(c("alliance_1", "symptoms_1"), "~~", paste(columns, collapse = " + ")))
}
run <- function(set, syntax, estimator = "ML", ...) {
  d <- extend(read.csv(file.path(here, "..", "simulated", "dynamic_panel", paste0(set, "_wide.csv"))))
  fit <- lavaan(paste(syntax, collapse = "\n"), d, meanstructure = TRUE, estimator = estimator, information = "observed",
                missing = if (set == "unbalanced") "fiml" else "listwise", auto.var = FALSE, auto.cov.lv.x = FALSE,
                auto.cov.y = FALSE, int.ov.free = FALSE, fixed.x = FALSE, ...)
  stopifnot(lavInspect(fit, "converged"))
  p <- parameterEstimates(fit); p <- p[p$label != "" & !duplicated(p$label), ]
  m <- fitMeasures(fit)
  params <- setNames(lapply(seq_len(nrow(p)), function(r) list(estimate = p$est[r], se = p$se[r])), sapply(p$label, canonical))
  list(data = set, clients = lavInspect(fit, "nobs"), npar = m[["npar"]], loglik = m[["logl"]], fit = as.list(m), params = params)
}
answers <- list(
  both_balanced_equal = run("balanced", both("equal", FALSE)),
  both_balanced_free = run("balanced", both("free", FALSE)),
  both_unbalanced_equal = run("unbalanced", both("equal", FALSE)),
  both_unbalanced_robust = run("unbalanced", both("equal", FALSE), "MLR"),
  both_unbalanced_extra = run("unbalanced", both("equal", TRUE)),
  forward_unbalanced_robust = run("unbalanced", forward("equal", 0, FALSE), "MLR"),
  forward_unbalanced_next = run("unbalanced", forward("equal", 1, FALSE)),
  forward_unbalanced_extra = run("unbalanced", forward("equal", 0, TRUE)),
  versions = list(R = R.version$version.string, lavaan = as.character(packageVersion("lavaan")))
)
write_json(answers, file.path(here, "lavaan.json"), digits = NA, auto_unbox = TRUE, pretty = TRUE)
