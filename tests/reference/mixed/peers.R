# Answers of lme4 and nlme on scores.csv: Rscript peers.R (in this folder) writes peers.json.
suppressMessages({library(lme4); library(nlme); library(jsonlite)})
data <- read.csv("scores.csv", colClasses = c(client = "character", therapist = "character"))
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = .2, rhoend = 2e-9, maxfun = 1e5),
                     check.conv.singular = "ignore")
finer <- lmeControl(opt = "nlminb", msTol = 1e-13, tolerance = 1e-11, niterEM = 50, maxIter = 500,
                    msMaxIter = 500)
intercepts <- function(formula, d, reml) {
  fit <- lmer(formula, d, REML = reml, control = tight)
  v <- as.data.frame(VarCorr(fit)); v <- setNames(v$vcov, v$grp)
  list(loglik = as.numeric(logLik(fit)), mean = unname(fixef(fit)), mean_var = as.numeric(vcov(fit)),
       client = v[["client"]], therapist = if ("therapist" %in% names(v)) v[["therapist"]] else NULL,
       residual = v[["Residual"]])
}
serial <- function(fixed, d, method) {
  d$client <- factor(d$client)
  fit <- lme(fixed, random = ~ 1 | client, d, correlation = corAR1(form = ~ session | client),
             method = method, control = finer)
  v <- as.numeric(VarCorr(fit)[, "Variance"])
  list(loglik = as.numeric(logLik(fit)), between = as.numeric(getVarCov(fit)[1, 1]),
       within = fit$sigma^2, phi = unname(coef(fit$modelStruct$corStruct, unconstrained = FALSE)))
}
out <- list()
for (name in unique(data$panel)) {
  d <- data[data$panel == name, ]
  for (reml in c(TRUE, FALSE)) {
    tag <- if (reml) "reml" else "ml"
    out[[name]][[paste0("client_", tag)]] <- intercepts(score ~ 1 + (1 | client), d, reml)
    out[[name]][[paste0("therapist_", tag)]] <- intercepts(score ~ 1 + (1 | client) + (1 | therapist), d, reml)
    if (name != "alike") out[[name]][[paste0("serial_", tag)]] <- serial(score ~ 1, d, if (reml) "REML" else "ML")
  }
}
# A line of its own for every client with at least three scores: slopes as fixed effects. Taking
# the lines out of the scores first leaves the variances of this model as they are.
d <- data[data$panel == "nested", ]
d <- d[table(d$client)[d$client] >= 3, ]
d$moment <- d$session - ave(d$session, d$client)
lined <- intercepts(score ~ 1 + moment:client + (1 | client), d, TRUE)
out$nested$lines_reml <- lined[c("loglik", "client", "residual")]
out$nested$serial_lines_reml <- serial(score ~ 1 + moment:client, d, "REML")
out$software <- list(R = R.version.string, lme4 = as.character(packageVersion("lme4")),
                     nlme = as.character(packageVersion("nlme")))
write(toJSON(out, auto_unbox = TRUE, digits = NA, pretty = TRUE, null = "null"), "peers.json")
