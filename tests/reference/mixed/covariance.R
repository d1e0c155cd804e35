# Answers of lme4 on crossed.csv, of nlme on sessions.csv, and of pbkrtest and clubSandwich there:
# Rscript covariance.R (in this folder) writes covariance.json.
suppressMessages({library(lme4); library(nlme); library(jsonlite)
                  library(pbkrtest); library(clubSandwich)})
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = .2, rhoend = 2e-10, maxfun = 1e5),
                     check.conv.singular = "ignore")
finer <- lmeControl(opt = "nlminb", msTol = 1e-13, tolerance = 1e-11, niterEM = 50, maxIter = 500,
                    msMaxIter = 500)
crossed <- function(formula, d, reml) {
  fit <- lmer(formula, d, REML = reml, control = tight)
  v <- as.data.frame(VarCorr(fit)); v <- setNames(v$vcov, v$grp)
  s <- ranef(fit)
  list(loglik = as.numeric(logLik(fit)), beta = unname(fixef(fit)), se = unname(sqrt(diag(as.matrix(vcov(fit))))),
       client = v[["client"]], therapist = v[["therapist"]], residual = v[["Residual"]],
       therapists = s$therapist[, 1], first_clients = s$client[1:5, 1])
}
serial <- function(fixed, d, random, correlation, method) {
  fit <- lme(fixed, random = random, data = d, correlation = correlation, method = method, control = finer)
  G <- lapply(fit$modelStruct$reStruct, function(p) unname(as.matrix(p)) * fit$sigma^2)
  s <- summary(fit, adjustSigma = FALSE)$tTable
  list(loglik = as.numeric(logLik(fit)), beta = unname(fixef(fit)), se = unname(s[, "Std.Error"]), random = G,
       residual = fit$sigma^2, phi = unname(coef(fit$modelStruct$corStruct, unconstrained = FALSE)))
}
d <- read.csv("crossed.csv"); out <- list()
x <- read.csv("../simulated/multilevel/sessions.csv"); x <- x[x$use == 1, ]
# real times from session numbers: some sessions come late
x$time <- x$session + ((3 * x$client + 5 * x$session) %% 7) / 10
fixed <- symptoms ~ alliance_within_lag1 + alliance_between + session0
for (method in c("ML", "REML")) {
  tag <- tolower(method); reml <- method == "REML"
  out[[paste0("crossed_", tag)]] <- crossed(score ~ session + x + (1 | client) + (1 | therapist), d, reml)
  out[[paste0("crossed_flat_", tag)]] <- crossed(flat ~ x + (1 | client) + (1 | therapist), d, reml)
  out[[paste0("ar1_", tag)]] <- serial(fixed, x, ~ 1 | client, corAR1(form = ~ session | client), method)
  out[[paste0("ar1_slope_", tag)]] <- serial(fixed, x, ~ 1 + alliance_within_lag1 | client,
                                             corAR1(form = ~ session | client), method)
  out[[paste0("ar1_therapist_", tag)]] <- serial(fixed, x, list(therapist = ~ 1, client = ~ 1),
                                                 corAR1(form = ~ session | therapist/client), method)
  out[[paste0("car1_", tag)]] <- serial(fixed, x, ~ 1 | client, corCAR1(form = ~ time | client), method)
}
# A joint test of two effects, and degrees of freedom of robust errors, by therapist and by client.
large <- lmer(symptoms ~ alliance_within_lag1 + alliance_between + session0 +
                (1 + alliance_within_lag1 | client) + (1 | therapist), x, control = tight)
joint <- KRmodcomp(large, rbind(c(0, 1, 0, 0), c(0, 0, 1, 0)))$test["Ftest", ]
v <- as.data.frame(VarCorr(large))
out$small_samples <- list(
  random = matrix(v$vcov[c(1, 3, 3, 2)], 2), outer = v$vcov[4], residual = v$vcov[5],
  kr_statistic = joint$stat, kr_df = joint$ddf, kr_scale = joint$F.scaling,
  cr2_df = coef_test(large, vcov = "CR2", cluster = x$therapist)$df_Satt)
client <- lmer(symptoms ~ alliance_within_lag1 + alliance_between + session0 +
                 (1 + alliance_within_lag1 | client), x, control = tight)
v <- as.data.frame(VarCorr(client)); robust <- coef_test(client, vcov = "CR2", cluster = x$client)
out$by_client <- list(random = matrix(v$vcov[c(1, 3, 3, 2)], 2), residual = v$vcov[4],
                      cr2_se = robust$SE, cr2_df = robust$df_Satt)
out$software <- list(R = R.version.string, lme4 = as.character(packageVersion("lme4")),
                     nlme = as.character(packageVersion("nlme")),
                     pbkrtest = as.character(packageVersion("pbkrtest")),
                     clubSandwich = as.character(packageVersion("clubSandwich")))
write(toJSON(out, auto_unbox = TRUE, digits = NA, pretty = TRUE, null = "null"), "covariance.json")
